//! From text to a document: what is written, place by place, and what of it cannot be read.

pub(super) mod document;
pub(super) mod http;
pub(super) mod include;
pub(super) mod json;
pub(super) mod operation;
pub(super) mod position;
pub(super) mod read;
pub(super) mod retry;
pub(super) mod service;
pub(super) mod step;
pub(super) mod step_kind;
