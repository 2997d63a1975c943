//! (skeleton)
pub fn run() -> u8 {
    1
}
