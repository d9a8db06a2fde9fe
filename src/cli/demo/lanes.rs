//! One lane for each system: a simulated LMS as its provider has it, a credential for it, and a call of the application through one
//! bursar before them all.

mod person;
mod systems;

use std::{io, sync::Arc};

use http::{Method, StatusCode};
use tokio::task::spawn_blocking;

use super::{
    report::Report,
    stage::{PrivateDirectory, StageError, call_host, text_of},
};
use crate::{
    app::{App, Running},
    clock::SystemClock,
    config::{self, LoadOptions, Loaded},
    mock::Mock,
    socket::Address,
    telemetry::LogHandle,
};
use systems::{SYSTEMS, System};

/// What runs for the lanes.
pub(super) struct Lanes {
    mocks: Vec<(&'static System, Mock)>,
    running: Running,
    proxy: String,
    // Last: the keys and logins in it outlive whoever might read them.
    _directory: PrivateDirectory,
}

impl Lanes {
    /// Starts the systems, logs in where a person has to, and starts bursar before them.
    ///
    /// # Errors
    ///
    /// Something could not be started; what was is gone again.
    pub(super) async fn set() -> Result<Self, StageError> {
        let directory = PrivateDirectory::new().map_err(StageError::Directory)?;
        let mut mocks = Vec::new();
        let mut text = directory.configuration().map_err(StageError::Directory)?;
        for system in SYSTEMS {
            let mock = Mock::start((system.mock)()?).await;
            let mock = mock.map_err(StageError::Mock)?;
            let toml = (system.toml)(&mock, &directory).map_err(StageError::Directory)?;
            text.push_str(&toml);
            mocks.push((system, mock));
        }
        let loaded = load(text)?;
        for (system, mock) in mocks.iter().filter(|(system, _)| system.has_login) {
            person::log_in(&loaded, system.name, mock).await?;
        }
        // Starting may block, and the systems live on this thread.
        let running =
            spawn_blocking(move || App::start(loaded, Arc::new(SystemClock), LogHandle::default()))
                .await??;
        let proxy = running.addresses().proxy.first().map(Address::to_string);
        Ok(Self {
            mocks,
            proxy: proxy.ok_or(StageError::Address("listens"))?,
            running,
            _directory: directory,
        })
    }

    /// Makes one call on each lane.
    pub(super) async fn show(&self, report: &mut Report) -> io::Result<()> {
        for (system, mock) in &self.mocks {
            report.say(&format!("\n{}", system.title));
            report.sent(&format!(
                "GET {}   (Host: {}.localhost, no credential)",
                system.target, system.name
            ));
            let host = format!("{}.localhost", system.name);
            let answer = call_host(&self.proxy, &host, Method::GET, system.target, "").await?;
            report.received(&format!("{}, {}", answer.status(), system.how));
            let counters = mock.counters();
            report.check_eq(
                "the LMS accepts the credential that bursar put on",
                &answer.status(),
                &StatusCode::OK,
            );
            report.check_eq(
                "and saw no call without it",
                &counters.api_calls_with(StatusCode::OK),
                &counters.api_calls_total(),
            );
            let seen = format!("{:?}{}", answer.headers(), text_of(&answer));
            report.check(
                "and nothing of it is in the answer",
                !mock.finds_token_in(&seen),
            );
        }
        Ok(())
    }

    /// Drains bursar and stops the systems.
    pub(super) async fn strike(self) {
        self.running.shutdown();
        let running = self.running;
        // Joining blocks, and the systems have to go on answering meanwhile. An end that is not clean shows in the main tour.
        let _ = spawn_blocking(|| running.join()).await;
        for (_, mock) in self.mocks {
            mock.stop().await;
        }
    }
}

fn load(text: String) -> Result<Loaded, StageError> {
    let options = LoadOptions {
        text: Some(("bursar.toml of the lanes".to_owned(), text)),
        ..LoadOptions::default()
    };
    config::load(&options).map_err(|problems| StageError::Config(problems.render(false)))
}
