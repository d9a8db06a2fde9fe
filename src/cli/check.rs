//! `bursar check`: is the configuration right, and do the authorization server and the LMS agree?

mod audience;
mod key_sets;
mod logins;
mod offline;
mod registration;
mod report;
mod tokens;
mod upstreams;

use super::{
    Exit, Surroundings,
    args::ConfigArgs,
    output::{self, Format},
};
use crate::config::{Loaded, Problems, load};
use report::Report;
pub(super) use tokens::{advice, request};

pub(super) fn run(
    args: &ConfigArgs,
    offline: bool,
    format: Format,
    surroundings: &Surroundings,
) -> Exit {
    match load(&surroundings.load_options(args)) {
        Ok(loaded) => match report(&loaded, offline) {
            Ok(report) => tell(&report, report.exit(), format, surroundings),
            Err(error) => {
                output::tell(&format!("bursar: this machine gives no runtime: {error}\n"));
                Exit::Failed
            }
        },
        Err(problems) => refuse(&problems, format, surroundings),
    }
}

/// Without a configuration there is nothing to ask anybody for. People get each problem with the lines
/// of the file that it is about.
fn refuse(problems: &Problems, format: Format, surroundings: &Surroundings) -> Exit {
    let exit = Exit::from_problems(problems);
    let report = offline::problems(problems);
    if format == Format::Json {
        return tell(&report, exit, format, surroundings);
    }
    let paint = surroundings.paint_on_stdout();
    let lines = problems.render(paint.is_on);
    ended(
        output::print(&format!("{lines}\n{}", report.verdict(paint))),
        exit,
    )
}

fn tell(report: &Report, exit: Exit, format: Format, surroundings: &Surroundings) -> Exit {
    let printed = match format {
        Format::Table => output::print(&report.render(surroundings.paint_on_stdout())),
        Format::Json => output::print_json(report),
    };
    ended(printed, exit)
}

fn ended(printed: Exit, exit: Exit) -> Exit {
    if printed == Exit::Done { exit } else { printed }
}

fn report(loaded: &Loaded, offline: bool) -> std::io::Result<Report> {
    let mut report = offline::checks(loaded);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    report
        .categories
        .extend(registration::check(&loaded.config));
    report
        .categories
        .extend(runtime.block_on(logins::check(&loaded.config)));
    if !offline {
        report.categories.extend(runtime.block_on(async {
            let config = &loaded.config;
            let upstreams = upstreams::check(config).await;
            // Before the tokens: a key that the world does not see is why there is none.
            let key_sets = key_sets::check(config).await;
            let tokens = tokens::check(config).await;
            [Some(upstreams), key_sets, Some(tokens)]
                .into_iter()
                .flatten()
        }));
    }
    Ok(report)
}
