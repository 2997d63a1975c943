//! Calls that may be answered with nothing, of those HTTP+SSE sessions whose stream this process holds.
//! Takes sessions and calls, tells the stream's keeper what was asked. Surprise: whoever takes a message for a stream that another process
//! holds learns here that it is not here; its note then goes into the registry, where that process finds it.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::SessionKey;

/// Calls of one session that are remembered.
const MOST: usize = 1024;

#[derive(Debug, Default)]
pub struct Calls {
    streams: Mutex<HashMap<SessionKey, Stream>>,
}

#[derive(Debug)]
enum Stream {
    Noted(HashSet<SessionKey>),
    /// More calls than are remembered: any may be answered with nothing.
    TooMany,
}

impl Calls {
    /// The session's stream begins; all its messages will come by Outrigger.
    pub fn open(&self, session: SessionKey) {
        self.streams().insert(session, Stream::Noted(HashSet::new()));
    }

    /// The stream is over, and all calls with it.
    pub fn close(&self, session: &SessionKey) {
        self.streams().remove(session);
    }

    pub fn is_open(&self, session: &SessionKey) -> bool {
        self.streams().contains_key(session)
    }

    /// Remembers a call. `false`: the stream is not here.
    pub fn note(&self, session: &SessionKey, call: SessionKey) -> bool {
        let mut streams = self.streams();
        let Some(stream) = streams.get_mut(session) else { return false };
        match stream {
            Stream::Noted(calls) if calls.len() < MOST => {
                calls.insert(call);
            }
            Stream::Noted(_) => *stream = Stream::TooMany,
            Stream::TooMany => {}
        }
        true
    }

    /// Whether the call was noted; a note is good for one answer.
    pub fn take(&self, session: &SessionKey, call: &SessionKey) -> bool {
        match self.streams().get_mut(session) {
            Some(Stream::Noted(calls)) => calls.remove(call),
            Some(Stream::TooMany) => true,
            None => false,
        }
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<SessionKey, Stream>> {
        // Every change is one step: a thread that panicked left nothing half done.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: usize) -> SessionKey {
        SessionKey::of_call(&SessionKey::new("gateway", "a"), &id.to_string())
    }

    #[test]
    fn a_note_lives_with_its_stream_and_is_good_for_one_answer() {
        let (calls, here) = (Calls::default(), SessionKey::new("gateway", "a"));
        assert!(!calls.note(&here, call(1)), "no stream is held here");
        calls.open(here);
        assert!(calls.note(&here, call(1)) && calls.note(&here, call(1)));
        assert!(calls.take(&here, &call(1)) && !calls.take(&here, &call(1)));
        assert!(calls.note(&here, call(1)));
        calls.close(&here);
        assert!(!calls.take(&here, &call(1)) && !calls.is_open(&here));
    }

    #[test]
    fn no_session_is_remembered_without_bound() {
        let (calls, here) = (Calls::default(), SessionKey::new("gateway", "a"));
        calls.open(here);
        assert!((0..MOST).all(|id| calls.note(&here, call(id))));
        assert!(!calls.take(&here, &call(MOST)));
        assert!(calls.note(&here, call(MOST)));
        assert!(
            calls.take(&here, &call(MOST)) && calls.take(&here, &call(MOST + 1)),
            "no success is taken for a failure"
        );
    }
}
