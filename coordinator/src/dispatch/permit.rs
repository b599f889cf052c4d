//! Whether a call may still go out: its caller's word, asked again at every step on the way to the wire.
//!
//! A process can be stopped between any two instructions (SIGSTOP, a frozen virtual machine, swapping) and go on long after
//! others took over what it held. So the last question is asked in the very poll that writes the request: HTTP/1 buffers the
//! head, polls the body and writes both with one call. Over HTTP/2 a head may go out alone, and is then reset.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Of a body, written on the strength of one answer: a large one is asked about again on its way.
const PIECE: usize = 64 << 10;

/// Cheap to clone and to ask.
#[derive(Clone)]
pub struct Permit(Arc<dyn Fn() -> bool + Send + Sync>);

impl Permit {
    /// `holds` tells whether the call may still go out; once it was `false` it need not stay so.
    pub fn new(holds: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(holds))
    }

    #[must_use]
    pub fn holds(&self) -> bool {
        (self.0)()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

/// How far a request came that was held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeldBack {
    /// Not a byte was handed over.
    Whole,
    /// Some of the body, never all of it: no server has the whole request.
    InPart,
}

/// Tells what became of a `PermittedBody` that the client took away.
#[derive(Debug, Default)]
pub(super) struct Fate(AtomicU8);

impl Fate {
    const WHOLE: u8 = 1;
    const IN_PART: u8 = 2;

    fn set(&self, held_back: HeldBack) {
        let fate = match held_back {
            HeldBack::Whole => Self::WHOLE,
            HeldBack::InPart => Self::IN_PART,
        };
        self.0.store(fate, Ordering::Release);
    }

    pub(super) fn held_back(&self) -> Option<HeldBack> {
        match self.0.load(Ordering::Acquire) {
            Self::WHOLE => Some(HeldBack::Whole),
            Self::IN_PART => Some(HeldBack::InPart),
            _ => None,
        }
    }
}

/// A request's body that fails, and its request with it, once the call may no longer go out.
pub(super) struct PermittedBody {
    rest: Bytes,
    begun: bool,
    permit: Permit,
    fate: Arc<Fate>,
}

/// Ends the request; nobody reads it, `Fate` tells.
#[derive(Debug, thiserror::Error)]
#[error("the call may no longer go out")]
pub(super) struct NotPermitted;

impl PermittedBody {
    pub(super) fn new(body: Option<Bytes>, permit: Permit) -> (Self, Arc<Fate>) {
        let fate = Arc::<Fate>::default();
        (Self { rest: body.unwrap_or_default(), begun: false, permit, fate: Arc::clone(&fate) }, fate)
    }

    fn permitted(&self) -> bool {
        // What was refused once stays refused: the head may say already that a body follows.
        if self.fate.held_back().is_none() && !self.permit.holds() {
            self.fate.set(if self.begun { HeldBack::InPart } else { HeldBack::Whole });
        }
        self.fate.held_back().is_none()
    }
}

impl Body for PermittedBody {
    type Data = Bytes;
    type Error = NotPermitted;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, NotPermitted>>> {
        if self.begun && self.rest.is_empty() {
            return Poll::Ready(None);
        }
        if !self.permitted() {
            return Poll::Ready(Some(Err(NotPermitted)));
        }
        self.begun = true;
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let piece = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    /// The client asks right before it writes the head. A request without a body has no later moment, so it claims to have
    /// one, which then fails.
    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && (self.begun || self.permitted())
    }

    fn size_hint(&self) -> SizeHint {
        let claimed = u64::from(self.rest.is_empty() && !self.begun && self.fate.held_back().is_some());
        SizeHint::with_exact((self.rest.len() as u64).max(claimed))
    }
}
