//! status.json: where a run stands.

use serde::{Deserialize, Serialize};

use super::super::state::RunState;
use super::Seal;

/// Where the reason of a failure lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Around the run: data, disk, memory, libraries. The next start tries the run again.
    Environment,
    /// In the run itself: it would fail again.
    Run,
}

/// The content of status.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStatus {
    /// The version of this file's form.
    pub schema_version: u32,
    /// Where the run stands; a run that is pending has no such file.
    pub status: RunState,
    /// Epochs trained so far.
    pub epoch: usize,
    /// Epochs that the run has in all.
    pub epochs: usize,
    /// Why it diverged or failed.
    pub reason: Option<String>,
    /// How often a curvature could not be inverted as it was and a fallback was taken.
    #[serde(default)]
    pub failed_inverses: u64,
    /// Steps made by a run that is done, where its length was one in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Why it failed; the first versions of the program did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What the files of a run with a result held when it ended; the first versions of the program did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
}

impl RunStatus {
    /// A status of today's form, without failed inverses, cause and seal.
    pub fn new(status: RunState, epoch: usize, epochs: usize, reason: Option<String>) -> Self {
        let schema_version = super::SCHEMA_VERSION;
        RunStatus {
            schema_version,
            status,
            epoch,
            epochs,
            reason,
            failed_inverses: 0,
            steps: None,
            cause: None,
            seal: None,
        }
    }
    /// Where a run stands whose folder holds this status and no result that counts: one that is damaged is none.
    pub fn unfinished(status: Option<&RunStatus>) -> RunState {
        status.map(|status| status.status).filter(|state| !state.is_final()).unwrap_or_default()
    }
}
