//! What will happen to the keys, and when, in the words of `bursar keys rotate`.

use std::time::Duration;

use crate::{
    cli::output::columns,
    keys::{KeyStart, KeyState, timeline::Timeline},
};

/// A key in a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    /// How people know it.
    pub(super) label: String,
    /// It is made by this rotation.
    pub(super) is_new: bool,
}

/// Everything that happens from `now` on, in order of time. `deleted`: the labels of keys that are deleted at once.
pub(super) fn render(timeline: &Timeline<Planned>, deleted: &[String], now: Duration) -> String {
    let mut events: Vec<(Option<KeyStart>, &str, &str)> = deleted
        .iter()
        .map(|label| (None, label.as_str(), "is deleted"))
        .collect();
    for stage in timeline.at(now) {
        let label = stage.turn.key.label.as_str();
        if stage.turn.key.is_new {
            events.push((
                None,
                label,
                "is made, and published as soon as bursar sees it",
            ));
        }
        match stage.state {
            KeyState::Active if stage.turn.key.is_new => {
                events.push((None, label, "begins to sign"));
            }
            KeyState::Next => events.push((Some(stage.turn.start), label, "begins to sign")),
            _ => {}
        }
        let is_ahead = |time: &KeyStart| time.wall() > now;
        if let Some(end) = stage.signs_until.filter(is_ahead) {
            events.push((Some(end), label, "signs no more, and stays published"));
        }
        if let Some(end) = stage.published_until.filter(is_ahead) {
            let what = "is withdrawn; the next `bursar keys rotate` deletes it";
            events.push((Some(end), label, what));
        }
    }
    // `None`, which is now, sorts first; what happens at one moment stays in the order of the keys.
    events.sort_by_key(|(time, _, _)| *time);
    let rows = events.into_iter().map(|(time, label, what)| {
        let when = time.map_or_else(|| "now".to_owned(), |time| time.to_string());
        vec![when, label.to_owned(), what.to_owned()]
    });
    let head = ["WHEN", "KEY", "WHAT"].map(str::to_owned).to_vec();
    let table: Vec<_> = std::iter::once(head).chain(rows).collect();
    columns(&table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::timeline::Turn;

    #[test]
    fn a_plan_tells_what_happens_in_order_of_time() {
        let turn = |seconds: u64, label: &str, is_new| Turn {
            start: KeyStart::at(Duration::from_secs(seconds)),
            key: Planned {
                label: label.to_owned(),
                is_new,
            },
        };
        let timeline = Timeline::new(
            vec![turn(1_000, "old", false), turn(17_200, "new", true)],
            Duration::from_secs(3_660),
        )
        .unwrap();
        let plan = render(&timeline, &["gone".to_owned()], Duration::from_secs(10_000));
        assert_eq!(
            plan,
            "\
WHEN                  KEY   WHAT
now                   gone  is deleted
now                   new   is made, and published as soon as bursar sees it
1970-01-01T04:46:40Z  old   signs no more, and stays published
1970-01-01T04:46:40Z  new   begins to sign
1970-01-01T05:47:40Z  old   is withdrawn; the next `bursar keys rotate` deletes it
"
        );
    }
}
