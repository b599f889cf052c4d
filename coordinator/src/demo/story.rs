//! The demo's orders: what each is to show, how it begins, and how it must end.

use serde_json::{Value, json};
use skald_protocol::{BranchStatus, Status};

use BranchStatus::{Confirmed, Done, Refused, Undone};

pub(super) const ORDER: &str = include_str!("order.json");
pub(super) const GIFT: &str = include_str!("gift.json");

pub(super) struct Story {
    pub(super) name: &'static str,
    pub(super) tells: &'static str,
    pub(super) start: Start,
    pub(super) status: Status,
    pub(super) branches: &'static [(&'static str, BranchStatus)],
}

pub(super) enum Start {
    Saga {
        definition: &'static str,
        input: Value,
    },
    /// An open transaction: the demo is the client that enlists, and decides.
    Tcc {
        seats: i64,
        cents: i64,
    },
}

fn order(shelf: &str, card: &str, email: &str) -> Start {
    let input = json!({"shelf": shelf, "item": "lamp", "card": card, "cents": 4_900, "email": email});
    Start::Saga { definition: ORDER, input }
}

pub(super) fn stories() -> Vec<Story> {
    const SHIPPED: &[(&str, BranchStatus)] = &[("reserve", Done), ("charge", Done), ("ship", Done), ("receipt", Done)];
    vec![
        Story {
            name: "an order goes through",
            tells: "the charge is the pivot: from there on shipping (which answers later, by callback) and the receipt \
                    are driven until done",
            start: order("front", "valid", "ada@home.example"),
            status: Status::Succeeded,
            branches: SHIPPED,
        },
        Story {
            name: "a card is declined",
            tells: "the charge is refused, so the reservation is released",
            start: order("front", "expired", "bob@home.example"),
            status: Status::Compensated,
            branches: &[("reserve", Undone), ("charge", Refused)],
        },
        Story {
            name: "the stock answers too late, once",
            tells: "the same call is sent again with the same Idempotency-Key, so one lamp is reserved, not two",
            start: order("attic", "valid", "cyd@home.example"),
            status: Status::Succeeded,
            branches: SHIPPED,
        },
        Story {
            name: "the stock answers too late, always",
            tells: "nobody knows whether it reserved: what may have run is undone",
            start: order("cellar", "valid", "dan@home.example"),
            status: Status::Compensated,
            branches: &[("reserve", Undone)],
        },
        Story {
            name: "the mail server is busy",
            tells: "the card is charged, there is no way back: the receipt is tried until it is sent",
            start: order("front", "valid", "eve@busy.example"),
            status: Status::Succeeded,
            branches: SHIPPED,
        },
        Story {
            name: "a gift to nowhere",
            tells: "reserved and wrapped side by side; no courier goes there, so both are undone side by side",
            start: Start::Saga {
                definition: GIFT,
                input: json!({"item": "lamp", "paper": "stars", "country": "Atlantis"}),
            },
            status: Status::Compensated,
            branches: &[("reserve", Undone), ("wrap", Undone), ("courier", Refused)],
        },
        Story {
            name: "two seats, confirmed (TCC)",
            tells: "a client enlists two branches into an open transaction, both are tried, it commits, both are confirmed",
            start: Start::Tcc { seats: 2, cents: 4_000 },
            status: Status::Succeeded,
            branches: &[("seats", Confirmed), ("wallet", Confirmed)],
        },
        Story {
            name: "two seats, cancelled (TCC)",
            tells: "the wallet refuses, so the client cancels and the seats are given back",
            start: Start::Tcc { seats: 2, cents: 900_000 },
            status: Status::Compensated,
            branches: &[("seats", Undone), ("wallet", Refused)],
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_compile_without_a_warning_and_hold_the_branches_that_are_told_of() {
        for story in stories() {
            let Start::Saga { definition, .. } = story.start else { continue };
            let compiled = skald_engine::definition::compile(definition).unwrap();
            assert_eq!(compiled.warnings, []);
            for (name, _) in story.branches {
                assert!(compiled.plan.branches.iter().any(|branch| branch.step == *name), "{name}");
            }
        }
    }
}
