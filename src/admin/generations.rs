//! `/generations`: every worker process, what it still holds, and how the last reload ended.
//! Takes the supervisor's last word and what this generation counts, gives JSON.
//! Surprise: of itself a generation knows better than the supervisor, which hears of connections only from those that drain.

use http::StatusCode;
use serde_json::json;

use super::{Admin, Page};
use crate::supervisor::control::Generation;

impl Admin {
    pub(super) fn generations(&self) -> Page {
        let last_reload = self.supervisor.status().last_reload;
        let body = json!({ "generations": self.shown_generations(), "last_reload": last_reload });
        Page::json(StatusCode::OK, &body)
    }

    pub(super) fn shown_generations(&self) -> Vec<Generation> {
        let mut generations = self.supervisor.status().generations;
        for known in generations.iter_mut().filter(|known| known.generation == self.generation) {
            let live = self.app.counters.live();
            (known.connections, known.streams) = (Some(live.connections), Some(live.streams));
        }
        generations
    }
}
