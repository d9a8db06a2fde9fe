//! What signed calls are verified with.

use crate::secret::SecretString;

/// An application and a user, as the LMS knows them by ID keys.
#[derive(Clone)]
pub struct RegisteredIdKeys {
    /// The application, which D2L has issued a key to.
    pub app_id: String,
    /// That key.
    pub app_key: SecretString,
    /// The user in whose name it calls.
    pub user_id: String,
    /// The user's key for this application.
    pub user_key: SecretString,
}

impl Default for RegisteredIdKeys {
    /// Worth nothing, and so may be known.
    fn default() -> Self {
        Self {
            app_id: "bursar-mock-app".to_owned(),
            app_key: "bursar-mock-app-key".into(),
            user_id: "bursar-mock-user".to_owned(),
            user_key: "bursar-mock-user-key".into(),
        }
    }
}
