//! What signed calls are verified with.

use std::{sync::Arc, time::Duration};

use clap::Args;

use crate::{
    clock::{Clock, SystemClock},
    mock::{RegisteredIdKeys, ShiftedClock},
};

/// ID keys, in Brightspace's older way of authentication.
#[derive(Args, Clone)]
pub(super) struct IdKeyArgs {
    /// The application's id for signed calls (brightspace)
    #[arg(long, value_name = "ID", default_value = "bursar-mock-app")]
    app_id: String,
    /// Its key
    #[arg(long, value_name = "KEY", default_value = "bursar-mock-app-key")]
    app_key: String,
    /// The user in whose name it signs
    #[arg(long, value_name = "ID", default_value = "bursar-mock-user")]
    user_id: String,
    /// The user's key, which consent hands out too
    #[arg(long, value_name = "KEY", default_value = "bursar-mock-user-key")]
    user_key: String,
    /// How far the LMS's clock is ahead, or behind with a minus sign, such as 10m or -10m
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = skew, allow_hyphen_values = true)]
    clock_skew: Skew,
}

impl IdKeyArgs {
    pub(super) fn registered(&self) -> RegisteredIdKeys {
        RegisteredIdKeys {
            app_id: self.app_id.clone(),
            app_key: self.app_key.as_str().into(),
            user_id: self.user_id.clone(),
            user_key: self.user_key.as_str().into(),
        }
    }

    /// The LMS's clock.
    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        match self.clock_skew {
            Skew { by, .. } if by.is_zero() => Arc::new(SystemClock),
            Skew { by, is_ahead: true } => Arc::new(ShiftedClock::ahead(by)),
            Skew { by, .. } => Arc::new(ShiftedClock::behind(by)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Skew {
    by: Duration,
    is_ahead: bool,
}

fn skew(text: &str) -> Result<Skew, String> {
    let behind = text.strip_prefix('-');
    let by =
        humantime::parse_duration(behind.unwrap_or(text)).map_err(|error| error.to_string())?;
    let is_ahead = behind.is_none();
    Ok(Skew { by, is_ahead })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_ahead_or_with_a_minus_sign_behind() {
        let minute = Duration::from_mins(1);
        assert_eq!(
            skew("1m"),
            Ok(Skew {
                by: minute,
                is_ahead: true
            })
        );
        assert_eq!(
            skew("-1m"),
            Ok(Skew {
                by: minute,
                is_ahead: false
            })
        );
        for nonsense in ["", "-", "--1m", "soon"] {
            assert!(skew(nonsense).is_err(), "{nonsense}");
        }
    }
}
