//! Whether a peer is healthy: from what checks of it showed to its state, and how much of its share a peer gets that came back.
//! PURE: takes findings in their order and the thresholds, gives a [`State`] and what changed. Surprise: the very first finding decides
//! alone, so that a new generation neither calls a peer healthy that is down nor keeps a good one waiting for its second check.

use std::num::NonZeroU32;
use std::time::Duration;

/// What one check of a peer showed.
pub type Finding = Result<(), Reason>;

/// Why a peer counts as ill. A bounded set, because each is a label in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Its name has no address.
    Unresolved,
    /// Nobody listens at its address.
    Refused,
    /// No connection or no handshake in time.
    ConnectTimeout,
    /// No connection, for another reason.
    Unreachable,
    /// Its certificate comes from nobody that we trust, or is not what the trust domain demands.
    Untrusted,
    WrongName,
    /// Its certificate has expired, or is not yet valid.
    Expired,
    /// It is up and refuses our certificate.
    CertificateRejected,
    /// It is up and wants a certificate, and we showed none.
    CertificateRequired,
    /// Another failure of the handshake.
    Tls,
    /// Connected, and no answer in time.
    Timeout,
    /// The connection ended before the answer did.
    NoAnswer,
    NotHttp,
    WrongStatus,
    NotMcp,
    /// It speaks MCP and answered with an error.
    McpError,
}

impl Reason {
    pub const ALL: [Self; 16] = [
        Self::Unresolved,
        Self::Refused,
        Self::ConnectTimeout,
        Self::Unreachable,
        Self::Untrusted,
        Self::WrongName,
        Self::Expired,
        Self::CertificateRejected,
        Self::CertificateRequired,
        Self::Tls,
        Self::Timeout,
        Self::NoAnswer,
        Self::NotHttp,
        Self::WrongStatus,
        Self::NotMcp,
        Self::McpError,
    ];

    /// In metrics and the admin listener's answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unresolved => "unresolved",
            Self::Refused => "refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::Unreachable => "unreachable",
            Self::Untrusted => "untrusted_certificate",
            Self::WrongName => "wrong_name",
            Self::Expired => "expired_certificate",
            Self::CertificateRejected => "certificate_rejected",
            Self::CertificateRequired => "certificate_required",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::NoAnswer => "no_answer",
            Self::NotHttp => "not_http",
            Self::WrongStatus => "wrong_status",
            Self::NotMcp => "not_mcp",
            Self::McpError => "mcp_error",
        }
    }

    /// For people: what is wrong, and so whose it is to mend.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Unresolved => "its name has no address",
            Self::Refused => "nobody listens there",
            Self::ConnectTimeout => "no connection in time",
            Self::Unreachable => "it cannot be connected to",
            Self::Untrusted => "we do not trust its certificate",
            Self::WrongName => "its certificate is for another name",
            Self::Expired => "its certificate is not valid at this time",
            Self::CertificateRejected => "it is up, but rejects our certificate",
            Self::CertificateRequired => "it is up, but demands a client certificate and got none",
            Self::Tls => "the TLS handshake failed",
            Self::Timeout => "connected, but no answer in time",
            Self::NoAnswer => "the connection ended before an answer",
            Self::NotHttp => "what answers there does not speak HTTP/1.1",
            Self::WrongStatus => "it answers with a status other than 2xx",
            Self::NotMcp => "what answers there does not speak MCP",
            Self::McpError => "it answers with an MCP error",
        }
    }
}

/// How many findings in a row change a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    pub healthy: NonZeroU32,
    pub unhealthy: NonZeroU32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not looked at yet.
    Unknown,
    Healthy,
    /// For this reason; the last one, if there were several.
    Unhealthy(Reason),
}

/// What checks of a peer have shown so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    pub state: State,
    /// Findings in a row that agree with the last one.
    pub in_a_row: u32,
    last_was_well: bool,
}

impl Default for Health {
    fn default() -> Self {
        Self { state: State::Unknown, in_a_row: 0, last_was_well: false }
    }
}

/// What a finding did to a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    None,
    /// It was looked at for the first time and is well: nothing changed for it.
    Confirmed,
    /// It was unhealthy.
    CameBack,
    FellIll(Reason),
    /// It was unhealthy for another reason.
    StillIll(Reason),
}

impl Health {
    /// Takes the next finding.
    pub fn observe(&mut self, finding: Finding, thresholds: Thresholds) -> Change {
        let agrees = self.in_a_row > 0 && self.last_was_well == finding.is_ok();
        self.in_a_row = if agrees { self.in_a_row.saturating_add(1) } else { 1 };
        self.last_was_well = finding.is_ok();
        let before = self.state;
        match (before, finding) {
            (State::Unknown, Ok(())) => {
                self.state = State::Healthy;
                Change::Confirmed
            }
            (State::Unknown, Err(reason)) => self.ill(reason),
            (State::Healthy, Err(reason)) if self.in_a_row >= thresholds.unhealthy.get() => self.ill(reason),
            (State::Unhealthy(_), Ok(())) if self.in_a_row >= thresholds.healthy.get() => {
                self.state = State::Healthy;
                Change::CameBack
            }
            (State::Unhealthy(last), Err(reason)) if last != reason => {
                self.state = State::Unhealthy(reason);
                Change::StillIll(reason)
            }
            _ => Change::None,
        }
    }

    /// Checks in a row that failed.
    pub fn failures(&self) -> u32 {
        if self.last_was_well { 0 } else { self.in_a_row }
    }

    fn ill(&mut self, reason: Reason) -> Change {
        self.state = State::Unhealthy(reason);
        Change::FellIll(reason)
    }
}

/// Least share of a peer that has just come back: some traffic must reach it, or it never warms up.
const LEAST_SHARE: f64 = 0.1;

/// The share, up to 1, of a peer that came back `since` ago; it grows evenly.
pub fn share(since: Duration, slow_start: Duration) -> f64 {
    if since >= slow_start {
        return 1.0;
    }
    (since.as_secs_f64() / slow_start.as_secs_f64()).max(LEAST_SHARE)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::Change::{CameBack, Confirmed, FellIll, StillIll};
    use super::*;
    use proptest::prelude::*;

    const OK: Finding = Ok(());
    const REFUSED: Finding = Err(Reason::Refused);
    const TIMEOUT: Finding = Err(Reason::Timeout);

    fn thresholds(healthy: u32, unhealthy: u32) -> Thresholds {
        Thresholds {
            healthy: NonZeroU32::new(healthy).unwrap(),
            unhealthy: NonZeroU32::new(unhealthy).unwrap(),
        }
    }

    fn story(findings: &[Finding], thresholds: Thresholds) -> (State, Vec<Change>) {
        let mut health = Health::default();
        let changes = findings.iter().map(|finding| health.observe(*finding, thresholds)).collect();
        (health.state, changes)
    }

    #[test]
    #[rustfmt::skip]
    fn states_follow_findings() {
        use State::{Healthy, Unhealthy, Unknown};
        let none = Change::None;
        let table: [(&[Finding], State, &[Change]); 8] = [
            // two well or three ill in a row
            (&[],                                        Unknown,                     &[]),
            (&[OK, OK],                                  Healthy,                     &[Confirmed, none]),
            (&[REFUSED],                                 Unhealthy(Reason::Refused),  &[FellIll(Reason::Refused)]),
            (&[OK, REFUSED, TIMEOUT],                    Healthy,                     &[Confirmed, none, none]),
            (&[OK, REFUSED, REFUSED, TIMEOUT],           Unhealthy(Reason::Timeout),  &[Confirmed, none, none, FellIll(Reason::Timeout)]),
            (&[OK, REFUSED, REFUSED, OK, REFUSED],       Healthy,                     &[Confirmed, none, none, none, none]),
            (&[REFUSED, OK, TIMEOUT, OK],                Unhealthy(Reason::Timeout),  &[FellIll(Reason::Refused), none, StillIll(Reason::Timeout), none]),
            (&[REFUSED, OK, OK],                         Healthy,                     &[FellIll(Reason::Refused), none, CameBack]),
        ];
        for (findings, state, changes) in table {
            assert_eq!(story(findings, thresholds(2, 3)), (state, changes.to_vec()), "{findings:?}");
        }
    }

    #[test]
    fn failures_are_counted_in_a_row() {
        let mut health = Health::default();
        let counted: Vec<u32> = [REFUSED, TIMEOUT, OK, OK, REFUSED]
            .into_iter()
            .map(|finding| {
                health.observe(finding, thresholds(2, 3));
                health.failures()
            })
            .collect();
        assert_eq!(counted, [1, 2, 0, 0, 1]);
    }

    #[test]
    fn the_share_grows_evenly_from_a_tenth() {
        let after = |seconds| share(Duration::from_secs(seconds), Duration::from_secs(60));
        assert_eq!(
            [after(0), after(3), after(15), after(30), after(60), after(600)],
            [0.1, 0.1, 0.25, 0.5, 1.0, 1.0]
        );
        assert_eq!(share(Duration::ZERO, Duration::ZERO), 1.0);
    }

    #[test]
    fn every_reason_has_a_label_of_its_own() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert!(reason.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
            assert!(Reason::ALL[..index].iter().all(|other| other.as_str() != reason.as_str()));
        }
    }

    proptest! {
        /// A peer that flaps faster than both thresholds stays as it was.
        #[test]
        fn whatever_is_shorter_than_its_threshold_changes_nothing(
            first: bool, rounds in 1_usize..20, well in 1_u32..5, ill in 1_u32..5,
        ) {
            let mut findings = vec![if first { OK } else { TIMEOUT }];
            for _ in 0..rounds {
                findings.extend((0..ill).map(|_| TIMEOUT));
                findings.extend((0..well).map(|_| OK));
            }
            let wanted = thresholds(well + 2, ill + 2);
            let state = story(&findings, wanted).0;
            prop_assert_eq!(state == State::Healthy, first);
        }

        /// Whatever came before, enough findings of one kind decide.
        #[test]
        fn enough_in_a_row_decide(before in proptest::collection::vec(any::<bool>(), 0..30), well: bool) {
            let kind = |well: bool| if well { OK } else { REFUSED };
            let mut findings: Vec<Finding> = before.into_iter().map(kind).collect();
            findings.extend((0..3).map(|_| kind(well)));
            let state = story(&findings, thresholds(2, 3)).0;
            prop_assert_eq!(state == State::Healthy, well);
        }
    }
}
