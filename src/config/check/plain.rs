//! Keys whose values stand for themselves: nothing on the machine and no other key has a say. PURE.
//! Takes what the file says, gives settings, or nothing where the reader has reported the value. Surprise: no check is left to do here.

use log::LevelFilter;

use crate::config::field::Field;
use crate::config::file;
use crate::config::settings::{LogFormat, LogSettings, Profile, Reload, Timeouts};
use crate::config::unit::{Count, Time};
use crate::mcp::failure::Statuses;
use crate::mcp::public_url::address::EndpointForm;

pub fn timeouts_of(timeouts: file::Timeouts) -> Option<Timeouts> {
    let file::Timeouts {
        connect,
        first_byte,
        response_idle,
        handshake,
        stream_keepalive,
        idle,
        request_head,
        request_body,
        write,
        upstream_idle,
    } = timeouts;
    Some(Timeouts {
        connect: time(connect)?,
        first_byte: time(first_byte)?,
        response_idle: time(response_idle)?,
        handshake: time(handshake)?,
        stream_keepalive: stream_keepalive.good()?.map(|time| time.0),
        idle: time(idle)?,
        request_head: time(request_head)?,
        request_body: time(request_body)?,
        write: time(write)?,
        upstream_idle: time(upstream_idle)?,
    })
}

pub fn reload_of(reload: file::Reload) -> Option<Reload> {
    let file::Reload { watch, settle, ready_timeout } = reload;
    Some(Reload { watch: watch.good()?, settle: time(settle)?, ready_timeout: time(ready_timeout)? })
}

pub fn log_of(log: file::Log) -> Option<LogSettings> {
    let file::Log { level, format, burst, access_burst } = log;
    let bound = |count: Count| u32::try_from(count.0).unwrap_or(u32::MAX);
    Some(LogSettings {
        level: match level.good()? {
            file::Level::Off => LevelFilter::Off,
            file::Level::Error => LevelFilter::Error,
            file::Level::Warn => LevelFilter::Warn,
            file::Level::Info => LevelFilter::Info,
            file::Level::Debug => LevelFilter::Debug,
            file::Level::Trace => LevelFilter::Trace,
        },
        format: match format.good()? {
            file::Format::Json => LogFormat::Json,
            file::Format::Text => LogFormat::Text,
        },
        burst: burst.good()?.map(bound),
        access_burst: access_burst.good()?.map(bound),
    })
}

pub fn profile_of(profile: file::Profile) -> Profile {
    match profile {
        file::Profile::ContextForge => Profile::ContextForge,
        file::Profile::Generic => Profile::Generic,
    }
}

pub fn endpoint_of(endpoint: file::EndpointForm) -> EndpointForm {
    match endpoint {
        file::EndpointForm::Path => EndpointForm::Path,
        file::EndpointForm::Absolute => EndpointForm::Absolute,
    }
}

pub fn statuses_of(status: file::Status) -> Statuses {
    match status {
        file::Status::Preserve => Statuses::Preserve,
        file::Status::Ok => Statuses::Ok,
    }
}

pub fn time(field: Field<Time>) -> Option<std::time::Duration> {
    field.good().map(|time| time.0)
}

pub fn count(field: Field<Count>) -> Option<usize> {
    field.good().map(|count| count.0)
}
