//! The check of `sessions`: one kind of registry with what belongs to it, and nothing that belongs to the other. PURE.
//! Takes the shape and the profile, on which a default rests; gives settings in which only the chosen registry is left.
//! Surprise: `redis` without `registry: redis` is refused, for its user believes that owners are shared; `embedded` is only idle.

use std::path::PathBuf;

use super::{Check, count, time};
use crate::config::field::Field;
use crate::config::file;
use crate::config::problem::Path;
use crate::config::settings::{Embedded, OnRegistryFailure, Profile, RegistryKind, Sessions};

/// ContextForge's own default (`CACHE_PREFIX`).
const CONTEXTFORGE_KEYS: &str = "mcpgw:";

/// The kind that the file asks for, whatever else is wrong.
pub fn registry(sessions: &Field<file::Sessions>) -> Option<file::Registry> {
    match sessions {
        Field::Good(file::Sessions { registry: Field::Good(registry), .. }) => Some(*registry),
        _ => None,
    }
}

impl Check<'_> {
    pub fn sessions(
        &self,
        sessions: Field<file::Sessions>,
        profile: Option<Profile>,
        path: &Path,
    ) -> Option<Sessions> {
        let kind = registry(&sessions);
        let file::Sessions { registry: _, embedded, redis, ttl, gateway_keys, on_registry_failure } =
            sessions.good()?;
        let gateway_keys = self.gateway_keys(gateway_keys, profile, kind, &path.key("gateway_keys"));
        let redis_path = path.key("redis");
        let redis = redis.good();
        match (kind, &redis) {
            (Some(file::Registry::Embedded), Some(Some(_))) => {
                self.report.say(&redis_path, "is given, but `registry` is embedded; write `registry: redis`");
            }
            (Some(file::Registry::Redis), Some(None)) => {
                self.report.say(&redis_path, "is required, because `registry` is redis");
            }
            _ => {}
        }
        let redis = redis.flatten().and_then(|redis| self.redis(redis, gateway_keys, &redis_path));
        let registry = match kind? {
            file::Registry::Embedded => {
                self.embedded(embedded, &path.key("embedded")).map(RegistryKind::Embedded)
            }
            file::Registry::Redis => redis.map(|redis| RegistryKind::Redis(Box::new(redis))),
        };
        let on_registry_failure = match on_registry_failure.good()? {
            file::OnRegistryFailure::Refuse => OnRegistryFailure::Refuse,
            file::OnRegistryFailure::Local => OnRegistryFailure::Local,
        };
        Some(Sessions { ttl: time(ttl)?, registry: registry?, on_registry_failure })
    }

    fn embedded(&self, embedded: Field<file::Embedded>, path: &Path) -> Option<Embedded> {
        let file::Embedded { path: folder, max_sessions } = embedded.good()?;
        let folder = folder.good().map(PathBuf::from);
        if let Some(folder) = &folder {
            self.ask(self.machine.folder(folder), &path.key("path"));
        }
        Some(Embedded { path: folder?, max_sessions: count(max_sessions)? })
    }

    /// `Some(None)`: the gateway's keys are not read.
    fn gateway_keys(
        &self,
        keys: Field<Option<String>>,
        profile: Option<Profile>,
        registry: Option<file::Registry>,
        path: &Path,
    ) -> Option<Option<String>> {
        match (keys, registry?) {
            (Field::Bad, _) => None,
            (Field::Missing, file::Registry::Redis) => {
                Some((profile? == Profile::ContextForge).then(|| CONTEXTFORGE_KEYS.to_owned()))
            }
            (Field::Missing, file::Registry::Embedded) | (Field::Good(None), _) => Some(None),
            (Field::Good(Some(_)), file::Registry::Embedded) => {
                self.report.say(path, "needs `registry: redis`; the gateway keeps its keys there");
                None
            }
            (Field::Good(Some(prefix)), file::Registry::Redis) => {
                self.name(&prefix, path);
                Some(Some(prefix))
            }
        }
    }
}
