//! What the standard variables OTEL_* say of tracing. PURE: takes the environment as a function, gives the settings, nothing where tracing is
//! off, or why it cannot be on. Surprise: without an endpoint it is off. The specification would send to localhost, but a sidecar that nobody told
//! of a collector has none.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::Uri;

use crate::config::settings::{UpstreamTls, Verify};
use crate::material::IdentityFiles;

/// Where traces of an endpoint go that is for all signals.
const PATH: &str = "/v1/traces";
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

#[derive(Debug, Clone)]
pub struct Settings {
    pub endpoint: Uri,
    /// One export, retries included.
    pub timeout: Duration,
    /// `None`: plaintext.
    pub tls: Option<UpstreamTls>,
    /// Spans that wait at most.
    pub queue: usize,
    /// Spans of one export.
    pub batch: usize,
    /// Longest time that a span waits for others.
    pub delay: Duration,
}

/// # Errors
/// Why tracing is off although it was asked for, with the variable.
pub fn read(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Settings>, String> {
    let of = |name: &str| env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    let for_traces = |name: &str| {
        let own = format!("OTEL_EXPORTER_OTLP_TRACES_{name}");
        let shared = format!("OTEL_EXPORTER_OTLP_{name}");
        of(&own).map(|value| (own, value)).or_else(|| of(&shared).map(|value| (shared, value)))
    };
    let asked = match of("OTEL_TRACES_EXPORTER").as_deref() {
        None => for_traces("ENDPOINT").is_some(),
        Some("otlp") => true,
        Some("none") => false,
        Some(other) => return Err(format!("OTEL_TRACES_EXPORTER is {other:?}; there are otlp and none")),
    };
    if !asked || of("OTEL_SDK_DISABLED").is_some_and(|word| word.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    if let Some((name, protocol)) = for_traces("PROTOCOL").filter(|(_, protocol)| protocol != "http/protobuf")
    {
        return Err(format!("{name} is {protocol:?}; there is http/protobuf only"));
    }
    check_sampler(of("OTEL_TRACES_SAMPLER"), of("OTEL_TRACES_SAMPLER_ARG"))?;
    let number = |name: &str, default: u64| match of(name) {
        Some(text) => text.parse().map_err(|_| format!("{name} is {text:?}; a number is expected")),
        None => Ok(default),
    };
    let millis = |value: Option<(String, String)>, default| match value {
        Some((name, text)) => {
            text.parse().map_err(|_| format!("{name} is {text:?}; a number of milliseconds is expected"))
        }
        None => Ok(default),
    };
    let endpoint = endpoint(for_traces("ENDPOINT"))?;
    let file = |name: &str| for_traces(name).map(|(_, path)| PathBuf::from(path));
    let tls = tls(&endpoint, file("CERTIFICATE"), file("CLIENT_CERTIFICATE"), file("CLIENT_KEY"))?;
    let queue = number("OTEL_BSP_MAX_QUEUE_SIZE", 2048)?.clamp(1, 1 << 20);
    let batch = number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)?.clamp(1, queue);
    Ok(Some(Settings {
        endpoint,
        timeout: Duration::from_millis(millis(for_traces("TIMEOUT"), 10_000)?),
        tls,
        queue: usize::try_from(queue).unwrap_or(usize::MAX),
        batch: usize::try_from(batch).unwrap_or(usize::MAX),
        delay: Duration::from_millis(number("OTEL_BSP_SCHEDULE_DELAY", 5_000)?),
    }))
}

/// The SDK reads these itself, and says nothing of what it cannot read.
fn check_sampler(name: Option<String>, argument: Option<String>) -> Result<(), String> {
    let Some(name) = name else { return Ok(()) };
    if !SAMPLERS.contains(&name.as_str()) {
        return Err(format!("OTEL_TRACES_SAMPLER is {name:?}; there are {}", SAMPLERS.join(", ")));
    }
    let ratio = |text: String| text.parse().is_ok_and(|ratio: f64| (0.0..=1.0).contains(&ratio));
    if name.ends_with("traceidratio") && !argument.is_none_or(ratio) {
        return Err("OTEL_TRACES_SAMPLER_ARG is no number from 0 to 1".to_owned());
    }
    Ok(())
}

fn endpoint(given: Option<(String, String)>) -> Result<Uri, String> {
    let default = || ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), "http://localhost:4318".to_owned());
    let (name, mut text) = given.unwrap_or_else(default);
    if name == "OTEL_EXPORTER_OTLP_ENDPOINT" {
        text = format!("{}{PATH}", text.strip_suffix('/').unwrap_or(&text));
    }
    let parsed = Uri::from_str(&text).ok().filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    // Its value may hold a password.
    parsed.ok_or_else(|| format!("{name} is no URL that begins with http:// or https://"))
}

fn tls(
    endpoint: &Uri,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<UpstreamTls>, String> {
    if endpoint.scheme_str() != Some("https") {
        return Ok(None);
    }
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some(IdentityFiles { cert, key, passphrase: None }),
        (None, None) => None,
        _ => return Err("a collector's client certificate and client key go together".to_owned()),
    };
    let server_name = endpoint.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    Ok(Some(UpstreamTls { ca, identity, server_name, verify: Verify::Full, pins: Vec::new() }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        read(&|name| {
            let value = variables.iter().find(|(own, _)| name == format!("OTEL_{own}"));
            value.map(|(_, value)| (*value).to_owned())
        })
    }

    fn on(variables: &[(&str, &str)]) -> Settings {
        of(variables).unwrap().unwrap()
    }

    const ENDPOINT: (&str, &str) = ("EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");

    #[test]
    fn it_is_off_until_a_collector_is_named() {
        assert!(of(&[]).unwrap().is_none());
        assert!(of(&[("EXPORTER_OTLP_ENDPOINT", "")]).unwrap().is_none());
        for off in [("SDK_DISABLED", "TRUE"), ("TRACES_EXPORTER", "none")] {
            assert!(of(&[ENDPOINT, off]).unwrap().is_none());
        }
        assert_eq!(on(&[("TRACES_EXPORTER", "otlp")]).endpoint, "http://localhost:4318/v1/traces");
    }

    #[test]
    fn what_is_for_traces_goes_before_what_is_for_all() {
        assert_eq!(on(&[ENDPOINT]).endpoint, "http://collector:4318/v1/traces");
        let own = ("EXPORTER_OTLP_TRACES_ENDPOINT", "https://[::1]/as/it/is");
        let both =
            on(&[ENDPOINT, own, ("EXPORTER_OTLP_TIMEOUT", "1"), ("EXPORTER_OTLP_TRACES_TIMEOUT", "250")]);
        assert_eq!(both.endpoint, "https://[::1]/as/it/is");
        assert_eq!(both.tls.unwrap().server_name, "::1");
        assert_eq!(both.timeout, Duration::from_millis(250));
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (variable, value) in [
            ("EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("TRACES_EXPORTER", "zipkin"),
            ("TRACES_SAMPLER", "xray"),
            ("EXPORTER_OTLP_TIMEOUT", "10s"),
            ("BSP_MAX_QUEUE_SIZE", "many"),
            ("EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4318"),
        ] {
            let reason = of(&[ENDPOINT, (variable, value)]).unwrap_err();
            assert!(reason.starts_with(&format!("OTEL_{variable} is ")), "{reason}");
        }
        let ratio =
            |argument| of(&[ENDPOINT, ("TRACES_SAMPLER", "traceidratio"), ("TRACES_SAMPLER_ARG", argument)]);
        assert!(ratio("0.25").is_ok() && ratio("1.5").is_err() && ratio("some").is_err());
        let half = ("EXPORTER_OTLP_CLIENT_KEY", "/key");
        assert!(of(&[("EXPORTER_OTLP_ENDPOINT", "https://collector"), half]).is_err());
    }
}
