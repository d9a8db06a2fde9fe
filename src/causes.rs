//! An error with everything that lies behind it.

use std::error::Error;

/// The error and its causes on one line. The Display of each prints its own level only.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the file cannot be read")]
    struct Unreadable(#[source] io::Error);

    #[test]
    fn the_causes_stand_behind_the_error_in_their_order() {
        let error = Unreadable(io::Error::other("the disk is gone"));
        assert_eq!(
            with_causes(&error),
            "the file cannot be read: the disk is gone"
        );
    }
}
