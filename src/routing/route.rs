//! (skeleton: the real classification replaces this; the signatures below stay)

/// The compiled MCP route patterns.
#[derive(Debug, Clone)]
pub struct Routes {}

/// Why a pattern of `routes` was refused: which list, which entry, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteError {
    /// `mcp`, `sse` or `message`.
    pub list: &'static str,
    pub index: usize,
    pub reason: String,
}

impl Routes {
    /// All problems of all three lists at once.
    pub fn compile(_mcp: &[String], _sse: &[String], _message: &[String]) -> Result<Self, Vec<RouteError>> {
        Ok(Self {})
    }
}
