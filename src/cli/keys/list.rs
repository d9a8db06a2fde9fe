//! `bursar keys list`: each key, where it stands, and since and until when.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;

use super::Holder;
use crate::{
    cli::{
        Exit,
        output::{self, Format, columns},
    },
    keys::{KeyStart, KeyView},
};

/// One key, for programs.
#[derive(Serialize)]
struct Row<'a> {
    credential: Option<&'a str>,
    kid: String,
    alg: &'static str,
    state: &'static str,
    signs_from: KeyStart,
    signs_until: Option<KeyStart>,
    published_until: Option<KeyStart>,
    file: Option<PathBuf>,
}

pub(super) fn show(holders: &[Holder], now: Duration, format: Format) -> Exit {
    match format {
        Format::Json => output::print_json(&rows(holders, now)),
        Format::Table if holders.is_empty() => {
            output::tell("no credential signs with a key\n");
            Exit::Done
        }
        Format::Table => output::print(&table(&rows(holders, now))),
    }
}

fn rows(holders: &[Holder], now: Duration) -> Vec<Row<'_>> {
    holders
        .iter()
        .flat_map(|holder| {
            let views = holder.ring.views(now).into_iter();
            views.map(move |view| row(holder, view))
        })
        .collect()
}

fn row(holder: &Holder, view: KeyView) -> Row<'_> {
    Row {
        credential: holder.name.as_deref(),
        kid: view.kid,
        alg: view.algorithm.as_str(),
        state: view.state,
        signs_from: view.start,
        signs_until: view.signs_until,
        published_until: view.published_until,
        file: holder
            .ring
            .directory()
            .map(|directory| directory.join(view.start.file_name())),
    }
}

fn table(rows: &[Row<'_>]) -> String {
    let head = [
        "CREDENTIAL",
        "KID",
        "ALG",
        "STATE",
        "SIGNS FROM",
        "SIGNS UNTIL",
        "PUBLISHED UNTIL",
    ];
    let or_dash =
        |time: Option<KeyStart>| time.map_or_else(|| "-".to_owned(), |time| time.to_string());
    let mut cells = vec![head.map(str::to_owned).to_vec()];
    cells.extend(rows.iter().map(|row| {
        vec![
            row.credential.unwrap_or("-").to_owned(),
            row.kid.clone(),
            row.alg.to_owned(),
            row.state.to_owned(),
            row.signs_from.to_string(),
            or_dash(row.signs_until),
            or_dash(row.published_until),
        ]
    }));
    columns(&cells)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        cli::keys::rotate::tests::{holder, seconds},
        keys::{Algorithm, KeyRing, KeyTerms, SigningKey, generate},
    };

    #[test]
    fn each_key_is_listed_with_its_state_and_its_times() {
        let (_directory, holder) = holder(&[1_000, 10_000, 20_000]);
        let holders = [holder];
        let rows = rows(&holders, seconds(10_500));
        let states: Vec<&str> = rows.iter().map(|row| row.state).collect();
        assert_eq!(states, ["retired", "active", "next"]);
        let table = table(&rows);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with("CREDENTIAL  KID"));
        assert!(
            lines[1].contains("1970-01-01T00:16:40Z  1970-01-01T02:46:40Z  1970-01-01T03:47:40Z")
        );
        assert!(lines[3].ends_with("1970-01-01T05:33:20Z  -                     -"));

        let json = serde_json::to_value(&rows).unwrap();
        assert_eq!(json[0]["credential"], "d2l");
        assert_eq!(json[0]["alg"], "EdDSA");
        assert_eq!(json[1]["signs_from"], "1970-01-01T02:46:40Z");
        assert!(json[2]["signs_until"].is_null());
        let file = json[2]["file"].as_str().unwrap();
        assert!(file.ends_with("/19700101T053320Z.pem"), "{file}");
    }

    #[test]
    fn a_key_that_stands_alone_is_active_and_has_no_file_name_that_means_anything() {
        let key = SigningKey::from_pem(&generate(Algorithm::EdDsa).unwrap(), None, None).unwrap();
        let terms = KeyTerms {
            assertion_lifetime: seconds(60),
            max_age: seconds(3_600),
        };
        let ring = KeyRing::single(Arc::new(key), KeyStart::at(seconds(7)), terms);
        let holders = [Holder {
            name: Some("d2l".into()),
            ring: Arc::new(ring),
        }];
        let rows = rows(&holders, seconds(1));
        assert_eq!((rows[0].state, &rows[0].file), ("active", &None));
    }
}
