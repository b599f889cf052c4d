//! What can go wrong, one thing at a time, and how it is said.

use std::{fmt, str::FromStr};

use skald_protocol::{OperationKind, duration_text};

/// How long a passing outage lasts: longer than a deployment, much shorter than a settling retry should be.
pub(super) const OUTAGE_MS: i64 = 10 * 60 * 1_000;

#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InjectedFault {
    /// One call of one operation is struck (some strikes last).
    Strike {
        branch: String,
        operation: OperationKind,
        ask: bool,
        attempt: u32,
        strike: Strike,
    },
    /// The coordinator is killed and another takes over.
    Crash {
        record: usize,
        when: When,
    },
    /// A client cancels.
    Cancel {
        record: usize,
        when: When,
    },
    /// The transaction's timeout passes so long after its begin.
    Deadline {
        after_ms: u64,
    },
    Signal {
        name: String,
        fate: Fate,
    },
}

/// What becomes of a signal that a step waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Missing,
    /// When the wait for it is over.
    Late,
    /// Before anything else.
    Early,
    Twice,
}

/// Where in the neighbourhood of a record something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The append is lost, although everything before it went out.
    Lost,
    /// It is durable, and nothing that follows from it was sent.
    Recorded,
    /// What follows from it was sent, and nothing of that was answered.
    Sent,
}

macro_rules! strikes {
    ($($(#[$doc:meta])* $variant:ident = $command:literal, $title:literal;)+) => {
        /// What becomes of a call; from the struck attempt on where it lasts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Strike { $($(#[$doc])* $variant),+ }

        impl Strike {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// As it is written on the command line.
            #[must_use]
            pub const fn command(self) -> &'static str {
                match self { $(Self::$variant => $command),+ }
            }

            /// As it stands in a table.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }
        }
    };
}

strikes! {
    Refused = "refused", "refused";
    /// The request is lost: it never has its effect.
    Timeout = "timeout", "timeout before the effect";
    /// The answer is lost: the effect is there.
    TimeoutAfter = "timeout_after", "timeout after the effect";
    /// The resend of a lost request is refused, which does not tell what became of the first.
    TimeoutThenRefused = "timeout_then_refused", "timeout, and the resend is refused";
    /// The network delivers the request twice.
    Duplicate = "duplicate", "duplicate delivery";
    /// Twice, and the second time when all is over.
    DuplicateLate = "duplicate_late", "duplicate delivery when all is over";
    /// The request hangs in the network and arrives when all is over; resends get through.
    Late = "late", "late arrival";
    /// The request hangs, nothing else gets through, and it arrives after its undo.
    LateAfterUndo = "late_after_undo", "late arrival after its undo";
    Unsent = "unsent", "connection refused";
    /// 503 without an effect, once.
    Unavailable = "unavailable", "unavailable (503) once";
    /// 500 after the effect.
    FailedAfter = "failed_after", "fails (500) after the effect";
    /// 503 for ten minutes.
    Outage = "outage", "outage of 10 minutes";
    /// 503 for ever: all attempts fail.
    Exhausted = "exhausted", "unavailable (503) for ever";
    /// The effect is there, its answer is lost, and from then on all is answered 503.
    DoneThenExhausted = "done_then_exhausted", "timeout after the effect, then unavailable for ever";
    Unreachable = "unreachable", "unreachable for ever";
    RefusedForEver = "refused_for_ever", "refused for ever";
    /// It succeeds and answers `{}`.
    Bare = "bare", "answers an empty object";
    /// It succeeds, and its answer is no JSON.
    NotJson = "not_json", "answers without JSON";
    /// Of an asynchronous operation: it ends, and nobody hears of it.
    CallbackLost = "callback_lost", "callback lost";
    CallbackRefused = "callback_refused", "refused by callback";
    CallbackTwice = "callback_twice", "callback twice";
    /// The callback overtakes the 202.
    CallbackEarly = "callback_early", "callback before the 202";
}

impl Strike {
    /// Nothing but a person ends it.
    #[must_use]
    pub const fn is_permanent(self) -> bool {
        matches!(self, Self::Exhausted | Self::Unreachable | Self::RefusedForEver | Self::DoneThenExhausted)
    }

    /// Of asynchronous operations alone.
    #[must_use]
    pub const fn is_of_callback(self) -> bool {
        matches!(self, Self::CallbackLost | Self::CallbackRefused | Self::CallbackTwice | Self::CallbackEarly)
    }

    /// What happens, said of a call.
    const fn sentence(self) -> &'static str {
        match self {
            Self::Refused => "is refused",
            Self::Timeout => "is lost on its way and never takes effect",
            Self::TimeoutAfter => "takes effect, and its answer is lost",
            Self::TimeoutThenRefused => "is lost on its way, and the resend is refused",
            Self::Duplicate => "is delivered twice",
            Self::DuplicateLate => "is delivered again when all is over",
            Self::Late => "hangs in the network and arrives when all is over",
            Self::LateAfterUndo => "hangs in the network, no resend gets through, and it arrives after its undo",
            Self::Unsent => "cannot connect",
            Self::Unavailable => "is answered 503 without an effect",
            Self::FailedAfter => "takes effect and is answered 500",
            Self::Outage => "and its resends are answered 503 for ten minutes",
            Self::Exhausted => "and all its resends are answered 503",
            Self::DoneThenExhausted => "takes effect, its answer is lost, and all resends are answered 503",
            Self::Unreachable => "and all its resends cannot connect",
            Self::RefusedForEver => "and all its resends are refused",
            Self::Bare => "succeeds and answers {}",
            Self::NotJson => "succeeds, and its answer is no JSON",
            Self::CallbackLost => "comes to its end, and the callback is lost",
            Self::CallbackRefused => "is refused by callback",
            Self::CallbackTwice => "is called back twice",
            Self::CallbackEarly => "is called back before its 202 arrives",
        }
    }
}

impl FromStr for Strike {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().find(|strike| strike.command() == text).copied().ok_or_else(|| {
            let commands: Vec<_> = Self::ALL.iter().map(|strike| strike.command()).collect();
            format!("`{text}` is none of: {}", commands.join(", "))
        })
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.title())
    }
}

impl InjectedFault {
    /// Of the faults that are no strikes, in a table's order.
    const OTHERS: [&'static str; 9] = [
        "crash, its last append lost",
        "crash after an append",
        "crash with calls in flight",
        "cancelled by a client",
        "deadline",
        "signal missing",
        "signal late",
        "signal before its wait",
        "signal twice",
    ];

    /// In a table's order.
    #[must_use]
    pub fn rank(title: &str) -> usize {
        let strikes = Strike::ALL.iter().map(|strike| strike.title());
        let place = strikes.chain(Self::OTHERS).position(|known| known == title);
        // Without a fault first.
        place.map_or(0, |place| place + 1)
    }

    /// The kind of fault, as it stands in a table.
    #[must_use]
    pub const fn title(&self) -> &'static str {
        match self {
            Self::Strike { strike, .. } => strike.title(),
            Self::Crash { when: When::Lost, .. } => "crash, its last append lost",
            Self::Crash { when: When::Recorded, .. } => "crash after an append",
            Self::Crash { when: When::Sent, .. } => "crash with calls in flight",
            Self::Cancel { .. } => "cancelled by a client",
            Self::Deadline { .. } => "deadline",
            Self::Signal { fate: Fate::Missing, .. } => "signal missing",
            Self::Signal { fate: Fate::Late, .. } => "signal late",
            Self::Signal { fate: Fate::Early, .. } => "signal before its wait",
            Self::Signal { fate: Fate::Twice, .. } => "signal twice",
        }
    }

    /// What it strikes, in the words of the definition.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Strike { branch, operation, ask, attempt, .. } => {
                let asked = if *ask { " status_check" } else { "" };
                let again = if *attempt > 1 { format!(" #{attempt}") } else { String::new() };
                format!("{branch} {operation}{asked}{again}")
            }
            Self::Crash { record, .. } | Self::Cancel { record, .. } => format!("record {record}"),
            Self::Deadline { after_ms } => format!("after {}", span(*after_ms)),
            Self::Signal { name, .. } => name.clone(),
        }
    }
}

/// A sentence without its full stop.
impl fmt::Display for InjectedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strike { branch, operation, ask, attempt, strike } => {
                let what = if *ask { "the status_check of the " } else { "the " };
                write!(f, "{what}{operation} of `{branch}` (attempt {attempt}) {}", strike.sentence())
            }
            Self::Crash { record, when } => {
                let when = match when {
                    When::Lost => "before its append is durable",
                    When::Recorded => "once it is durable",
                    When::Sent => "with the calls that follow from it in flight",
                };
                write!(f, "the coordinator is killed at record {record}, {when}")
            }
            Self::Cancel { record, when: When::Sent } => {
                write!(f, "a client cancels after record {record}, with calls in flight")
            }
            Self::Cancel { record, .. } => write!(f, "a client cancels right after record {record}"),
            Self::Deadline { after_ms } => {
                write!(f, "the transaction's timeout passes {} after its begin", span(*after_ms))
            }
            Self::Signal { name, fate: Fate::Missing } => write!(f, "the signal `{name}` never comes"),
            Self::Signal { name, fate: Fate::Late } => {
                write!(f, "the signal `{name}` comes when the wait for it is over")
            }
            Self::Signal { name, fate: Fate::Early } => write!(f, "the signal `{name}` comes before all else"),
            Self::Signal { name, fate: Fate::Twice } => write!(f, "the signal `{name}` comes twice"),
        }
    }
}

fn span(ms: u64) -> String {
    duration_text(std::time::Duration::from_millis(ms))
}
