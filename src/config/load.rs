//! From a file and an environment to a configuration, or to everything that is wrong with it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{
    Inputs, Loaded, Problem, Problems,
    document::Document,
    environment,
    layers::Layers,
    locate::{self, Home, LoadOptions},
    problem::{self, Severity},
    reader::Reader,
    resolve,
};
use crate::{
    secret::{self, AccessKeys},
    socket::Address,
};

/// Loads, merges, checks and resolves a configuration. Reads the files that it names; opens no socket.
///
/// # Errors
///
/// Every problem at once.
pub fn load(options: &LoadOptions) -> Result<Loaded, Problems> {
    let Read {
        path,
        mut reader,
        mut problems,
        broken_lines,
    } = read(options)?;
    let config = resolve::config(&mut reader, &Home::of(options));
    let (settings, more, inputs) = reader.finish();
    let is_certain = |problem: &Problem| {
        let line = problem.place().line();
        broken_lines.is_empty()
            || !(problem.code().is_absence()
                || line.is_some_and(|line| broken_lines.contains(&line)))
    };
    problems.extend(more.into_iter().filter(is_certain));

    let is_error = |problem: &Problem| problem.severity() == Severity::Error;
    match config {
        Some(config) if !problems.iter().any(is_error) => {
            problem::sort(&mut problems);
            Ok(Loaded {
                config,
                settings,
                warnings: problems,
                options: LoadOptions {
                    again: path.clone(),
                    ..options.clone()
                },
                path,
                inputs,
            })
        }
        _ => Err(Problems::new(problems).from(inputs)),
    }
}

/// What it takes to find a running bursar and to give it orders: the part of `[admin]` for that. What is wrong with the rest of
/// the configuration does not count: a running bursar goes on with the one that it has, and must be found all the same.
pub struct Control {
    /// `admin.listen`; `None` when it is not valid.
    pub listen: Option<SocketAddr>,
    /// `admin.control`; `None` when it is not valid.
    pub control: Option<Address>,
    /// The keys of `admin.control_key_file`, if it is set; `None` when they cannot be had.
    pub keys: Option<Option<AccessKeys>>,
    /// Everything that is wrong with the configuration, as far as it was read.
    pub problems: Problems,
}

/// Reads where a running bursar is found, and no secret but the control key.
///
/// # Errors
///
/// When there is no configuration, or it cannot be read.
pub fn load_control(options: &LoadOptions) -> Result<Control, Problems> {
    let Read {
        mut reader,
        mut problems,
        ..
    } = read(options)?;
    let (listen, control, keys) = resolve::control(&mut reader);
    problems.extend(reader.into_problems());
    Ok(Control {
        listen,
        control,
        keys,
        problems: Problems::new(problems),
    })
}

/// A configuration with its values and their places, before anybody asks for one.
struct Read {
    path: Option<PathBuf>,
    reader: Reader,
    problems: Vec<Problem>,
    broken_lines: Vec<usize>,
}

fn read(options: &LoadOptions) -> Result<Read, Problems> {
    let mut inputs = Inputs::default();
    let (path, document, mut problems) = match open(options, &mut inputs) {
        Ok(opened) => opened,
        Err(problem) => return Err(Problems::new(vec![problem]).from(inputs)),
    };
    let (variables, more) =
        environment::variables(&options.environment, document.as_ref(), &mut inputs);
    problems.extend(more);
    if document.is_none() && variables.is_empty() && problems.is_empty() {
        return Err(Problems::new(vec![locate::nothing_found(options)]));
    }
    let broken_lines = document
        .as_ref()
        .map(|document| document.broken_lines.clone())
        .unwrap_or_default();
    Ok(Read {
        path,
        reader: Reader::new(Layers::merge(document, variables), inputs),
        problems,
        broken_lines,
    })
}

type Opened = (Option<PathBuf>, Option<Document>, Vec<Problem>);

fn open(options: &LoadOptions, inputs: &mut Inputs) -> Result<Opened, Problem> {
    if let Some((name, text)) = &options.text {
        let directory = options.directory.clone().unwrap_or_default();
        let (document, problems) = Document::parse(name.clone(), text, directory);
        return Ok((None, Some(document), problems));
    }
    let Some((candidate, path)) = locate::find(options)
        .and_then(|candidate| candidate.path.clone().map(|path| (candidate, path)))
    else {
        return Ok((None, None, Vec::new()));
    };
    inputs.note(&path);
    let text = locate::read(&candidate, &path)?;
    let directory = path.parent().map(Path::to_owned).unwrap_or_default();
    let name = path.strip_prefix(".").unwrap_or(&path);
    let (mut document, problems) = Document::parse(name.display().to_string(), &text, directory);
    document.exposure = secret::exposure(&path).map(|exposure| exposure.to_string());
    Ok((Some(path), Some(document), problems))
}
