//! What the examination finds: one thing, how it stands, and what to do.

use serde::Serialize;

/// How one thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Something is lacking that only some uses need.
    Warn,
    /// A run cannot start, or its numbers cannot be trusted.
    Fail,
}

impl State {
    /// The word in tables and files.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at ("libtorch", "runs folder").
    pub check: String,
    /// How it stands.
    pub state: State,
    /// What was found, with versions, paths and sizes.
    pub found: String,
    /// What to do about it; empty where nothing is to be done.
    pub remedy: String,
}

impl Finding {
    pub(super) fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Finding { check: check.into(), state: State::Ok, found: found.into(), remedy: String::new() }
    }

    pub(super) fn warn(check: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding { check: check.into(), state: State::Warn, found: found.into(), remedy: remedy.into() }
    }

    pub(super) fn fail(check: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding { check: check.into(), state: State::Fail, found: found.into(), remedy: remedy.into() }
    }
}
