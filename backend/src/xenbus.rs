//! The xenbus state machine: from what is seen in xenstore to what is to be done, as pure functions.
//!
//! Xenstore says how things are, not what happened, so each step follows from the present states alone; it is taken when
//! one of them has changed since the last look.

use std::fmt;

/// State of one end (Xen `io/xenbus.h`, `enum xenbus_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum XenbusState {
    /// The node is not there, or says nothing.
    Unknown = 0,
    /// Initialising.
    Initialising = 1,
    /// Waiting for the other end.
    InitWait = 2,
    /// Ready to connect.
    Initialised = 3,
    /// Connected.
    Connected = 4,
    /// Closing.
    Closing = 5,
    /// Closed.
    Closed = 6,
    /// Devices are being added or removed.
    Reconfiguring = 7,
    /// They are.
    Reconfigured = 8,
}

impl XenbusState {
    /// From the text of a node: one digit. `None` for anything else, however long.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        Some(match text {
            b"0" => Self::Unknown,
            b"1" => Self::Initialising,
            b"2" => Self::InitWait,
            b"3" => Self::Initialised,
            b"4" => Self::Connected,
            b"5" => Self::Closing,
            b"6" => Self::Closed,
            b"7" => Self::Reconfiguring,
            b"8" => Self::Reconfigured,
            _ => return None,
        })
    }

    /// The digit that a node holds.
    #[must_use]
    pub fn digit(self) -> &'static str {
        ["0", "1", "2", "3", "4", "5", "6", "7", "8"].get(usize::from(self as u8)).copied().unwrap_or("0")
    }
}

impl fmt::Display for XenbusState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", self, self.digit())
    }
}

/// What the frontend's state node says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frontend {
    /// A state. A node that is not there is [`XenbusState::Unknown`].
    State(XenbusState),
    /// Something that is no state.
    Garbage,
}

/// What is known of a vhost when it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Our own state node.
    pub own: XenbusState,
    /// The frontend's.
    pub frontend: Frontend,
    /// The frontend's at the last look; `None` at the first.
    pub before: Option<Frontend>,
    /// `online`: the toolstack wants the device to stay.
    pub online: bool,
    /// A worker serves the ring.
    pub connected: bool,
    /// The frontend has had its time to follow a 7, 8 or 5 in our own state.
    pub late: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// Let go of the ring if there is one, write the features and state 2.
    Announce,
    /// Let go of the old ring if there is one, take up the new one, add the units, state 4.
    Connect,
    /// The frontend has the units: theirs become 4, and the host's.
    Confirm,
    /// The frontend does not come for the units: they stay as they are, and the host's state becomes 4, for toolstacks that find
    /// an 8 not ready.
    Settle,
    /// Let go of the ring, state 5.
    Close,
    /// Let go of the ring, state 6.
    EndClosed,
    /// The same, and then wait for the frontend anew: state 6, features, state 2; after a while if it closed because we did.
    Return,
    /// Add and remove units, state 8.
    Reconfigure,
    /// The frontend is out of its mind: error node, let go of the ring, state 5.
    Complain,
}

/// The next step.
#[must_use]
pub fn step(seen: Seen) -> Step {
    use XenbusState as S;
    // A new backend directory, perhaps in place of one that was removed a moment ago: only the toolstack writes 1. The
    // frontend may be ahead of it already, and is looked at again after this.
    if seen.own == S::Initialising || (seen.own == S::Unknown && !seen.connected) {
        return Step::Announce;
    }
    // The toolstack takes the vhost away, and there is no ring that the frontend would have to let go of first.
    if !seen.online && !seen.connected && seen.own != S::Closed {
        return Step::EndClosed;
    }
    if seen.late && seen.connected {
        match seen.own {
            // Found by a frontend that comes round to it later, an 8 adds the units in its eyes too.
            S::Reconfiguring => return Step::Reconfigure,
            S::Reconfigured if seen.frontend == Frontend::State(S::Connected) => return Step::Settle,
            S::Closing => return Step::EndClosed,
            _ => {}
        }
    }
    if seen.before == Some(seen.frontend) {
        return Step::Rest;
    }
    let ended = matches!(seen.own, S::Closing | S::Closed);
    match seen.frontend {
        Frontend::Garbage => Step::Complain,
        Frontend::State(state) => match state {
            // A frontend that comes back after Closed is waited for again: kdump and Windows rely on it.
            S::Initialising if ended && seen.online => Step::Announce,
            // A new process finds what an earlier one closed: ready for a frontend that is bound again.
            S::Closed if ended && seen.online && seen.before.is_none() => Step::Announce,
            // A driver that was unloaded says 6 and never 5, and when it is loaded again it goes to 3 at once; if it finds us in 6
            // then, it gives up. One that said 5 before waits for our 6, and is met when it says 1.
            S::Closed if seen.online && seen.before != Some(Frontend::State(S::Closing)) => Step::Return,
            S::Initialising | S::InitWait => Step::Rest,
            // It has not seen yet that it is to close.
            S::Initialised if seen.own == S::Closing && !seen.online => Step::Rest,
            S::Initialised => Step::Connect,
            S::Connected if seen.connected => Step::Confirm,
            // Our nodes say connected, but this process has no ring: an earlier one had.
            S::Connected if matches!(seen.own, S::Connected | S::Reconfiguring | S::Reconfigured) => {
                Step::Close
            }
            S::Connected => Step::Rest,
            S::Closing => Step::Close,
            // The toolstack may write our directory before the frontend's.
            S::Unknown if seen.before.is_none() => Step::Rest,
            // A frontend that is gone has let go of everything too.
            S::Closed | S::Unknown => Step::EndClosed,
            S::Reconfiguring if seen.connected => Step::Reconfigure,
            S::Reconfiguring => Step::Rest,
            S::Reconfigured => Step::Complain,
        },
    }
}

/// What is to be done with one `dev-N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DevStep {
    /// Nothing.
    Rest,
    /// Open the device and serve it: state 3, or 6 when that fails.
    Add,
    /// Serve it no more: state 6.
    Remove,
}

/// The step for a device at connect and at reconfigure (`served`: it is in the table of units).
#[must_use]
pub fn dev_step(state: XenbusState, served: bool) -> DevStep {
    use XenbusState as S;
    match state {
        S::Initialising => DevStep::Add,
        // After a restore, or a restart of ours, the nodes say what was; the table says what is.
        S::Connected | S::Initialised if !served => DevStep::Add,
        // Also when it was never served: the toolstack waits for the 6.
        S::Closing => DevStep::Remove,
        _ => DevStep::Rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use XenbusState as S;

    const STATES: [S; 9] = [
        S::Unknown,
        S::Initialising,
        S::InitWait,
        S::Initialised,
        S::Connected,
        S::Closing,
        S::Closed,
        S::Reconfiguring,
        S::Reconfigured,
    ];

    /// Numbers of Xen's io/xenbus.h.
    #[test]
    fn states_are_one_digit() {
        for (number, state) in STATES.iter().enumerate() {
            assert_eq!(state.digit(), number.to_string());
            assert_eq!(S::parse(state.digit().as_bytes()), Some(*state));
        }
        for bad in ["", "9", "-1", "04", "4 ", " 4", "4\n", "abc", "44444444444444444444", "٤"] {
            assert_eq!(S::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(S::parse(&[b'4'; 5000]), None);
    }

    fn seen(own: S, frontend: S, connected: bool) -> Seen {
        Seen {
            own,
            frontend: Frontend::State(frontend),
            before: Some(Frontend::State(S::Unknown)),
            online: true,
            connected,
            late: false,
        }
    }

    #[test]
    fn a_new_backend_announces_itself_whatever_the_frontend_says() {
        for frontend in STATES {
            for connected in [false, true] {
                assert_eq!(step(seen(S::Initialising, frontend, connected)), Step::Announce);
            }
        }
    }

    #[test]
    fn the_frontends_states_lead_the_way() {
        for (own, frontend, connected, expected) in [
            (S::InitWait, S::Initialising, false, Step::Rest),
            (S::InitWait, S::Initialised, false, Step::Connect),
            (S::Connected, S::Initialised, true, Step::Connect),
            (S::Connected, S::Connected, true, Step::Confirm),
            (S::Reconfigured, S::Connected, true, Step::Confirm),
            (S::InitWait, S::Connected, false, Step::Rest),
            (S::Connected, S::Connected, false, Step::Close),
            (S::Reconfiguring, S::Reconfiguring, true, Step::Reconfigure),
            (S::InitWait, S::Reconfiguring, false, Step::Rest),
            (S::Connected, S::Closing, true, Step::Close),
            (S::Connected, S::Closed, true, Step::Return),
            (S::Closed, S::Initialising, false, Step::Announce),
            (S::Closing, S::Initialising, false, Step::Announce),
            (S::Closed, S::Initialised, false, Step::Connect),
            (S::Connected, S::Reconfigured, true, Step::Complain),
        ] {
            assert_eq!(step(seen(own, frontend, connected)), expected, "own {own}, frontend {frontend}");
        }
    }

    #[test]
    fn a_frontend_that_is_gone_is_closed_and_one_that_never_was_is_waited_for() {
        let gone =
            Seen { before: Some(Frontend::State(S::Connected)), ..seen(S::Connected, S::Unknown, true) };
        assert_eq!(step(gone), Step::EndClosed);
        let not_yet = Seen { before: None, ..seen(S::InitWait, S::Unknown, false) };
        assert_eq!(step(not_yet), Step::Rest);
    }

    #[test]
    fn a_device_that_is_not_wanted_does_not_come_back() {
        let offline = |own, frontend, connected| Seen { online: false, ..seen(own, frontend, connected) };
        assert_eq!(step(offline(S::Closed, S::Initialising, false)), Step::Rest);
        assert_eq!(step(offline(S::Closing, S::Closed, true)), Step::EndClosed);
        assert_eq!(step(offline(S::Closing, S::Initialised, true)), Step::Rest);
        for own in [S::InitWait, S::Closing] {
            let unused = offline(own, S::Initialising, false);
            assert_eq!(step(unused), Step::EndClosed);
            let before = Some(unused.frontend);
            assert_eq!(step(Seen { before, ..unused }), Step::EndClosed, "no word of the frontend is needed");
        }
    }

    /// kdump and Windows go through 5 and wait to see our 6; an unloaded driver does not.
    #[test]
    fn a_frontend_that_said_closing_sees_closed() {
        let closed = seen(S::Closing, S::Closed, false);
        assert_eq!(step(Seen { before: Some(Frontend::State(S::Closing)), ..closed }), Step::EndClosed);
        assert_eq!(step(Seen { before: Some(Frontend::State(S::Connected)), ..closed }), Step::Return);
    }

    #[test]
    fn a_new_process_is_ready_for_a_frontend_that_closed_before() {
        let found = Seen { before: None, ..seen(S::Closed, S::Closed, false) };
        assert_eq!(step(found), Step::Announce);
        assert_eq!(step(Seen { online: false, ..found }), Step::EndClosed);
    }

    #[test]
    fn garbage_is_complained_about_once() {
        let mut garbage = Seen { frontend: Frontend::Garbage, ..seen(S::Connected, S::Connected, true) };
        assert_eq!(step(garbage), Step::Complain);
        garbage.before = Some(Frontend::Garbage);
        assert_eq!(step(garbage), Step::Rest);
    }

    /// The toolstack writes 7 or 5 into our own node: only the frontend's answer moves us.
    #[test]
    fn what_the_toolstack_asks_waits_for_the_frontend() {
        for own in [S::Reconfiguring, S::Closing] {
            let same = Seen { before: Some(Frontend::State(S::Connected)), ..seen(own, S::Connected, true) };
            assert_eq!(step(same), Step::Rest);
        }
    }

    #[test]
    fn a_frontend_that_never_follows_is_not_waited_for_for_ever() {
        let late = |own, connected| Seen {
            before: Some(Frontend::State(S::Connected)),
            late: true,
            ..seen(own, S::Connected, connected)
        };
        assert_eq!(step(late(S::Reconfiguring, true)), Step::Reconfigure);
        assert_eq!(step(late(S::Reconfigured, true)), Step::Settle);
        assert_eq!(step(late(S::Closing, true)), Step::EndClosed);
        for own in [S::Connected, S::Closed] {
            assert_eq!(step(late(own, true)), Step::Rest);
        }
        assert_eq!(step(late(S::Closing, false)), Step::Rest, "there is no ring to let go of");
    }

    #[test]
    fn each_combination_has_a_step() {
        for own in STATES {
            for frontend in STATES {
                for connected in [false, true] {
                    for online in [false, true] {
                        let seen = Seen { online, ..seen(own, frontend, connected) };
                        let next = step(seen);
                        if matches!(next, Step::Confirm | Step::Reconfigure) {
                            assert!(connected, "{seen:?} has no ring");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn devices_follow_their_state() {
        for (state, served, expected) in [
            (S::Initialising, false, DevStep::Add),
            (S::Connected, false, DevStep::Add),
            (S::Connected, true, DevStep::Rest),
            (S::Initialised, false, DevStep::Add),
            (S::Initialised, true, DevStep::Rest),
            (S::Closing, true, DevStep::Remove),
            (S::Closing, false, DevStep::Remove),
            (S::Closed, false, DevStep::Rest),
            (S::Closed, true, DevStep::Rest),
            (S::Reconfiguring, true, DevStep::Rest),
        ] {
            assert_eq!(dev_step(state, served), expected, "{state} served {served}");
        }
    }
}
