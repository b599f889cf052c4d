//! One TOML file over built-in defaults, `SKALD_…` over it, flags over that; unknown keys are errors.
