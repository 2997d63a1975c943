//! A certificate that this generation shows or trusts, as `/status` and `/upstreams` tell of it.
//! Takes what the shelf has noted, gives JSON. Surprise: `days_left` is for reading; whether that is few says `nearness`, by the
//! certificate's own life.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::material::{Role, Used};

pub fn shown(Used { by, role, file, certificate }: &Used) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
    json!({
        "by": by,
        "role": if *role == Role::Shown { "shown" } else { "trusted" },
        "file": file,
        "name": certificate.name,
        "subject": certificate.subject,
        "serial": certificate.serial,
        "not_after": certificate.not_after,
        "days_left": certificate.days_left(now),
        "nearness": certificate.nearness(now).as_str(),
    })
}
