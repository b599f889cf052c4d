//! What the compiler says of a definition: a code, the place, what is wrong and what to write.

use std::fmt;

use skald_protocol::Fault;

macro_rules! codes {
    ($($variant:ident = $text:literal, $title:literal, $remedy:literal;)+) => {
        /// What kind of fault it is; the variants stand in the order of their codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = concat!($text, ": ", $title, ".")] $variant,)+
            /// An input that its schema does not take; not a fault of a definition.
            InputInvalid,
        }

        impl Code {
            /// Those of the compiler.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ Self::InputInvalid => "input_invalid" }
            }

            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ Self::InputInvalid => "an input that does not fit" }
            }

            /// What to do, in Markdown, as docs/workflows.md has it.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)+ Self::InputInvalid => "Send what the `input` schema asks for" }
            }
        }
    };
}

codes! {
    InvalidJson = "E001", "not JSON as it should be",
        "Mend the JSON: the place is where reading stopped. A member stands once; nesting ends at 64";
    UnknownOrMissingField = "E002", "a field that is unknown or missing",
        "Drop or respell the unknown field, or add the one that is missing";
    UnsupportedLanguage = "E003", "a language version that is not read",
        "Write `\"dsl\": \"1.0\"`";
    InvalidValue = "E004", "a value of another form",
        "Write the value in its form: durations as `15m`, versions as `1.2.0`, names and URLs as it says";
    DuplicateName = "E101", "a name that is taken",
        "Rename one of the two steps";
    UnknownReference = "E102", "a name that nothing has",
        "Define the service, the policy or the workflow under that name; publish an included one first, or hand its file over";
    InvalidAfter = "E103", "`after` names no sibling",
        "`after` names steps of the same list alone";
    OrderCycle = "E104", "steps that wait for each other",
        "Take one `after` away: the steps wait for each other";
    EmptyBlock = "E105", "a block without content",
        "Give the block an arm, the arm steps, the choice its `otherwise` as the last arm";
    InvalidInclusion = "E106", "a workflow that cannot be included",
        "A workflow cannot include itself, not over others either, nor one with `on_abort` or `on_end`";
    MissingUndo = "E110", "no undo, and no reason why",
        "Add `compensate`, or the `role` that says why none is needed";
    SecondPivot = "E111", "a second pivot",
        "One step commits: make the later pivot `retriable`";
    MisplacedUndo = "E112", "an undo where nothing is undone",
        "Take the undo away, or move the step before the pivot: in the tail, `on_abort` and `on_end` nothing is undone";
    MisplacedInTail = "E113", "what may not stand behind the commit",
        "In the tail, `on_abort` and `on_end` only `retriable` and `read_only` steps may stand, and nothing that fails or ends it early";
    UnsafePlace = "E114", "a place that is not safe beside another step",
        "Put the step before the pivot or behind it, the pivot outside of maps; a `succeed` where nothing else can be under way";
    ExhaustionUndecided = "E115", "giving up without a decision",
        "Say what happens when a retriable step gives up: `on_exhausted`, or drop the bound";
    RetriableBeforePivot = "E117", "a retriable step before the pivot",
        "Move the retriable step behind the pivot, or give it an undo";
    ConditionalPivot = "E118", "a pivot that may be passed over",
        "Let every arm of a choice have a pivot (or end with `succeed`), or none; no `when` on a pivot or around it";
    IncompleteTcc = "E120", "a TCC step without all its operations",
        "Write `try`, `confirm` and `cancel`, all three";
    InvalidExpression = "E201", "an expression that cannot be read",
        "Mend the expression: the message names the character";
    UnknownName = "E202", "a name that is not in reach",
        "Read what is there: the table under *Expressions* says what is where";
    NotRunYet = "E203", "a step that has not run yet",
        "Come after the step that is read: move this one, or add it to `after`";
    MayBeAbsent = "E204", "a value that may be absent",
        "Ask `has(…)` first, use `coalesce(…)`, or make it `required` in the schema";
    UnknownMember = "E205", "a member that the type does not have",
        "Respell the path, or describe the member in the `input` schema";
    WrongType = "E206", "a value of another type",
        "Convert the value: `string(…)`, `int(…)`, `double(…)`";
    TooCostly = "E207", "an expression that may cost too much",
        "Shorten the expression, bound its lists with `maxItems`, or put a call between what is too much together";
    MisplacedSecret = "E208", "a secret where it would be shown",
        "Put the secret into a service's `auth` or `headers`";
    StructureInUrl = "E209", "a list or an object in a URL",
        "Put a string, a number or a boolean into the URL; send lists and objects in the body";
    UndoByAnswer = "W303", "an undo that needs an answer",
        "Undo by what was sent: `self.request.body`, `self.idempotency_key`";
    Unused = "W305", "something that nothing uses",
        "Remove what nothing uses";
    ShortTimeout = "W306", "little time to finish",
        "Add a `heartbeat`, or give the participant more time";
    PivotUnanswerable = "W307", "a pivot whose outcome cannot be asked for",
        "Give the pivot a `status_check`, or `\"idempotent\": true`";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One fault of a definition: a code of docs/workflows.md, the JSON pointer of its place, what is wrong and what to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub code: Code,
    pub pointer: String,
    pub message: String,
    pub help: Option<String>,
    /// In the text of a definition: of the name where it should not be there, else of the value.
    pub position: Option<Position>,
    pub(super) mark: Mark,
}

impl Diagnostic {
    /// As a fault of a body that holds the definition at the pointer `base`.
    #[must_use]
    pub fn into_fault(self, base: &str) -> Fault {
        Fault {
            pointer: format!("{base}{}", self.pointer),
            message: self.message,
            code: Some(self.code.to_string()),
            line: self.position.map(|position| position.line),
            column: self.position.map(|position| position.column),
            help: self.help,
        }
    }
}

/// A place in a text; both count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// What of a member a fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::definition) enum Mark {
    /// Its name: it should not be there, or not so.
    Key,
    Value,
}

impl Position {
    pub(in crate::definition) fn of(text: &str, at: usize) -> Self {
        let at = text.floor_char_boundary(at);
        let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        Self { line: text[..start].matches('\n').count() + 1, column: text[start..at].chars().count() + 1 }
    }

    /// Where a parser stopped; where the text ends too early, at its last character, which something should follow.
    pub(in crate::definition) fn of_error(text: &str, error: &serde_json::Error) -> Self {
        let line: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let at = line + error.column().saturating_sub(1);
        Self::of(text, at.min(text.trim_end().len().saturating_sub(1)))
    }
}
