//! `bursar demo`: a simulated LMS, its authorization server and bursar before them, all on loopback and with a key made
//! for the occasion. Needs no configuration, no network and no other program.

mod lanes;
mod report;
mod scrape;
mod stage;
mod tour;

use std::{io, time::Duration};

use super::{
    Exit, Surroundings,
    args::DemoArgs,
    mock, output,
    signals::{self, Hangup, Hangups},
};
use crate::causes::with_causes;
use report::Report;
use stage::{Ports, Stage, StageError};
use tour::Tour;

/// Limit of the whole tour; it takes about seven seconds.
const TOUR_LIMIT: Duration = Duration::from_secs(60);

/// Runs the demonstration.
pub(super) fn run(args: DemoArgs, surroundings: &Surroundings) -> Exit {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Err(error) => Err(StageError::Runtime(error)),
        Ok(runtime) if args.once => runtime.block_on(once()),
        Ok(runtime) => runtime.block_on(open_house(surroundings)),
    };
    result.unwrap_or_else(|error| {
        output::tell(&format!("bursar: {}\n", with_causes(&error)));
        Exit::Failed
    })
}

async fn once() -> Result<Exit, StageError> {
    let stage = Stage::set(Ports::FREE, Some(tour::FIRST_LIFETIME)).await?;
    let tour = Tour::new(stage, Report::new(io::stdout()));
    Ok(match tokio::time::timeout(TOUR_LIMIT, tour.make()).await {
        Ok(true) => Exit::Done,
        Ok(false) => Exit::Failed,
        Err(_elapsed) => {
            output::tell(&format!(
                "bursar: the tour has not come to its end within {TOUR_LIMIT:?}\n"
            ));
            Exit::Failed
        }
    })
}

/// Runs until Ctrl-C, for people to try.
async fn open_house(surroundings: &Surroundings) -> Result<Exit, StageError> {
    let _logs = mock::log(surroundings)?;
    let mut stops = signals::listen().map_err(StageError::Signals)?;
    let mut hangups =
        Hangups::listen(surroundings.stderr_is_terminal).map_err(StageError::Signals)?;
    let mut stage = Stage::set(Ports::usual(), None).await?;
    stage.open();
    // A reader that has gone away is no reason to stop.
    output::print(&invitation(&stage));
    loop {
        tokio::select! {
            _ = stops.recv() => break,
            hangup = hangups.recv() => match hangup {
                Hangup::Reload => stage.reload(),
                Hangup::Stop(_) => break,
            },
        }
    }
    stage.strike().await;
    Ok(Exit::Done)
}

fn invitation(stage: &Stage) -> String {
    let proxy = stage.proxy();
    let admin = stage.admin();
    let control = stage.control();
    let lms = stage.mock.address();
    format!(
        "\
bursar is running in front of a simulated Brightspace, all on this machine.

  application -> bursar http://{proxy} -> LMS http://{lms}

Try (no command holds a credential):

  # allowed: the LMS's answer
  curl -i http://{proxy}/d2l/api/lp/1.49/users/whoami
  curl -i http://{proxy}/d2l/api/lp/1.49/users/1003

  # refused: no scope in the allowlist covers it
  curl -i -X DELETE http://{proxy}/d2l/api/lp/1.49/users/1003

  # refused: the allowlist has the scope, but the authorization server did not grant it
  curl -i -X PUT http://{proxy}/d2l/api/le/1.49/6607/grades/7/values/1003

  # refused: no route
  curl -i http://{proxy}/d2l/home

  # the LMS's own refusals: no permission, nothing there
  curl -i http://{proxy}/d2l/api/lp/1.49/users/403
  curl -i http://{proxy}/d2l/api/lp/1.49/users/404

  # tokens live for a minute here: watch them being renewed
  curl -s http://{admin}/metrics | grep ^bursar_token
  curl -s 'http://{admin}/readyz?verbose'
  curl -s http://{control}/api/v1/status
  curl -s http://{control}/.well-known/jwks.json

Ctrl-C ends it."
    )
}
