//! placeholder
pub struct SqlStore {}
