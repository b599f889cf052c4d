//! Wiring: store, journal, dispatch, runtime and API of one process.
