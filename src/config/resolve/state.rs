//! `[state]`: where what logins have brought is kept.

use std::path::PathBuf;

use crate::{
    causes::with_causes,
    config::{
        locate::Home,
        problem::ProblemCode,
        reader::{Reader, Table},
        value::{Fault, secret_file, word::StateBackend},
    },
    secret::SecretFiles,
    store::{KeyFile, StoreError, StoreParams},
};

/// `is_needed`: whether there is a credential for which people log in. Without one it does not matter where its place would be.
pub(super) fn state(
    reader: &mut Reader,
    rule: SecretFiles,
    home: &Home,
    is_needed: bool,
) -> Option<StoreParams> {
    let table = reader.section("state");
    if reader.get::<StateBackend>(&table, "backend")? == StateBackend::Memory {
        if is_needed {
            reader.fault(&table, "backend", unreachable_store());
            return None;
        }
        return Some(StoreParams::Memory);
    }
    let own_directory = home.state.clone();
    let own_key = home.config.as_ref().map(|config| config.join("state-key"));
    let directory = place(reader, &table, "path", own_directory);
    let key_file = match table.has("key_file") {
        true => place(reader, &table, "key_file", None).map(|path| KeyFile::Given { path, rule }),
        false => own_key.map(|path| KeyFile::Own { path }),
    };
    if let (true, Some(key_file @ KeyFile::Given { .. })) = (is_needed, &key_file) {
        // Now, and not when the first token is wanted. Our own is made with the first login.
        if let Err(error) = key_file.check() {
            reader.fault(&table, "key_file", unusable(&error));
            return None;
        }
    }
    let is_placed = directory.is_some() && key_file.is_some();
    if is_placed || !is_needed {
        // Nobody will store anything where there is no place for it.
        let file = directory.zip(key_file);
        return Some(file.map_or(StoreParams::Memory, |(directory, key_file)| {
            StoreParams::File {
                directory,
                key_file,
            }
        }));
    }
    for (name, found) in [
        ("path", directory.is_some()),
        ("key_file", key_file.is_some()),
    ] {
        if !found && !table.has(name) {
            reader.missing(
                &table,
                name,
                "set it, or HOME: a login has to be kept somewhere",
            );
        }
    }
    None
}

/// `bursar login` is a process of its own, and what it has brought would end with it.
fn unreachable_store() -> Fault {
    Fault::new(
        ProblemCode::Conflict,
        "\"memory\" keeps no login: `bursar login` is another process, and a running bursar would never see what it brings",
        "set state.backend = \"file\" (the default); a credential for which people log in needs it",
    )
}

fn unusable(error: &StoreError) -> Fault {
    match error {
        StoreError::KeyFile(error) => secret_file(error),
        error => Fault::new(
            ProblemCode::SecretUnusable,
            with_causes(error),
            error.hint(),
        ),
    }
}

/// Nothing is read from it here, and what is in the directory changes all the time: no input of the configuration.
fn place(reader: &mut Reader, table: &Table, name: &str, own: Option<PathBuf>) -> Option<PathBuf> {
    if !table.has(name) {
        return own;
    }
    let path = reader.get::<PathBuf>(table, name)?;
    Some(reader.directory(table, name).join(path))
}
