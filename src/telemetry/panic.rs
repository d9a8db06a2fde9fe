//! What is said about a panic: where, and never what. A payload may quote anything.

use std::{
    io::{self, Write as _},
    panic, thread,
};

/// Replaces the standard hook, which prints the payload and blocks on stderr.
///
/// The process lives on; who catches the unwinding decides what becomes of the work at hand.
pub fn install_panic_hook() {
    panic::set_hook(Box::new(|info| {
        let location = info
            .location()
            .map_or_else(String::new, ToString::to_string);
        if tracing::dispatcher::has_been_set() {
            let thread = thread::current();
            let thread = thread.name().unwrap_or("unnamed");
            tracing::error!(
                event = "panic",
                location,
                thread,
                "a bug in bursar: please report it"
            );
        } else {
            // A command, not a server: nothing to block. A closed stderr is no reason to panic again.
            let _ = writeln!(
                io::stderr(),
                "bursar: a bug at {location}: please report it (the message is withheld, it may hold a secret)"
            );
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::testing::Captured;

    #[test]
    fn a_panic_is_logged_with_its_place_and_without_its_message() {
        let standard = panic::take_hook();
        install_panic_hook();
        let (captured, guard) = Captured::listen(tracing::Level::ERROR);
        panic::catch_unwind(|| panic!("the token is {}", "t0k3n")).unwrap_err();
        drop(guard);
        panic::set_hook(standard);

        let log = captured.text();
        assert!(log.contains(file!()), "{log}");
        assert!(!log.contains("t0k3n"), "{log}");
    }
}
