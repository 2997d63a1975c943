//! `/generations`: every worker process, what it still holds, and how the last reload ended.
//! Takes the supervisor's last word and what this generation counts, gives JSON.
//! Surprise: of itself a generation knows better than the supervisor, which hears of connections only from those that drain.

use http::StatusCode;
use serde_json::json;

use super::{Admin, Page};
use crate::supervisor::control::Status;

impl Admin {
    pub(super) fn generations(&self) -> Page {
        let Status { mut generations, last_reload, .. } = self.supervisor.status();
        for known in generations.iter_mut().filter(|known| known.generation == self.generation) {
            let live = self.app.counters.live();
            (known.connections, known.streams) = (Some(live.connections), Some(live.streams));
        }
        Page::json(StatusCode::OK, &json!({ "generations": generations, "last_reload": last_reload }))
    }
}
