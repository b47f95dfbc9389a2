// SPDX-License-Identifier: GPL-2.0-only

//! The state of a buffer: each transition of the diagram in `src/state.rs`, and any sequence of
//! steps against a model that remembers facts and not states.

use super::{
    header,
    state::{
        self,
        Event,
        State,
        Verdict,
        LIVE,
        RELEASED,
        REVOKED,
        STALE,
        SUSPECT, //
    },
};
use proptest::prelude::*;

const EVENTS: [Event; 2] = [Event::Unmap, Event::Clear];
const VERDICTS: [Verdict; 3] = [Verdict::Same, Verdict::Different, Verdict::Unknown];

#[test]
fn bits_are_those_of_the_header() {
    assert_eq!(
        header::defines("VMMEXP_STATE_"),
        [
            ("VMMEXP_STATE_LIVE", state::LIVE),
            ("VMMEXP_STATE_SUSPECT", state::SUSPECT),
            ("VMMEXP_STATE_STALE", state::STALE),
            ("VMMEXP_STATE_REVOKED", state::REVOKED),
            ("VMMEXP_STATE_RELEASED", state::RELEASED),
        ]
    );
}

// --- one step ---------------------------------------------------------------------------------

/// Whatever may happen to a buffer after it is gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Observe(Event),
    /// A look that no event came between.
    Settle(Verdict),
    /// A look that began before the latest event.
    SettleOld(Verdict),
    Revoke,
    Release,
}

const STEPS: [Step; 10] = [
    Step::Observe(EVENTS[0]),
    Step::Observe(EVENTS[1]),
    Step::Settle(VERDICTS[0]),
    Step::Settle(VERDICTS[1]),
    Step::Settle(VERDICTS[2]),
    Step::SettleOld(VERDICTS[0]),
    Step::SettleOld(VERDICTS[1]),
    Step::SettleOld(VERDICTS[2]),
    Step::Revoke,
    Step::Release,
];

impl Step {
    fn take(self, state: &mut State) {
        let events = state.events();
        match self {
            Self::Observe(event) => state.observe(event),
            Self::Settle(verdict) => state.settle(events, verdict),
            Self::SettleOld(verdict) => state.settle(events.wrapping_sub(1), verdict),
            Self::Revoke => state.revoke(),
            Self::Release => state.release(),
        }
    }
}

fn after(mut state: State, steps: &[Step]) -> State {
    for step in steps {
        step.take(&mut state);
    }
    state
}

fn shared(watched: bool) -> State {
    let mut state = State::new(watched);
    state.gathered();
    state
}

fn live() -> State {
    shared(true)
}

fn suspect() -> State {
    after(live(), &[Step::Observe(Event::Clear)])
}

fn stale() -> State {
    after(live(), &[Step::Observe(Event::Unmap)])
}

/// Compares what each step leads to with `expected`, and with no change for all others.
fn check_steps(from: State, expected: &[(Step, u32)]) {
    for step in STEPS {
        let bits = expected
            .iter()
            .find(|(expected, _)| *expected == step)
            .map_or(from.bits(), |&(_, bits)| bits);
        let to = after(from, &[step]);
        assert_eq!(to.bits(), bits, "{from:?} after {step:?}");
        assert_eq!(to.is_suspect(), bits == SUSPECT, "{from:?} after {step:?}");
        let more = u64::from(matches!(step, Step::Observe(_)));
        assert_eq!(to.events(), from.events() + more);
    }
}

const ENDS: [(Step, u32); 2] = [(Step::Revoke, REVOKED), (Step::Release, REVOKED | RELEASED)];

#[test]
fn new_buffer_is_live_if_watched() {
    assert_eq!(State::new(true).bits(), LIVE);
    assert_eq!(State::new(false).bits(), 0);
    for watched in [true, false] {
        assert_eq!(shared(watched).bits(), State::new(watched).bits());
        assert!(!shared(watched).is_suspect());
        assert_eq!(shared(watched).events(), 0);
    }
}

#[test]
fn live_becomes_suspect_or_stale() {
    let mut expected = ENDS.to_vec();
    expected.push((Step::Observe(Event::Clear), SUSPECT));
    expected.push((Step::Observe(Event::Unmap), STALE));
    check_steps(live(), &expected);
    // No look without an event has anything to say.
    assert_eq!(after(live(), &[Step::Settle(Verdict::Different)]), live());
}

#[test]
fn suspect_is_settled_by_a_look_or_unmapped() {
    let mut expected = ENDS.to_vec();
    expected.push((Step::Observe(Event::Unmap), STALE));
    expected.push((Step::Settle(Verdict::Same), LIVE));
    expected.push((Step::Settle(Verdict::Different), STALE));
    check_steps(suspect(), &expected);
    // A second event, which begins another look.
    let again = after(suspect(), &[Step::Observe(Event::Clear)]);
    check_steps(again, &expected);
}

#[test]
fn live_again_becomes_suspect_again() {
    let again = after(suspect(), &[Step::Settle(Verdict::Same)]);
    let mut expected = ENDS.to_vec();
    expected.push((Step::Observe(Event::Clear), SUSPECT));
    expected.push((Step::Observe(Event::Unmap), STALE));
    check_steps(again, &expected);
    assert_eq!(again.events(), 1);
}

#[test]
fn stale_is_only_revoked() {
    check_steps(stale(), &ENDS);
    check_steps(after(suspect(), &[Step::Settle(Verdict::Different)]), &ENDS);
    check_steps(after(suspect(), &[Step::Observe(Event::Unmap)]), &ENDS);
}

#[test]
fn what_nobody_watches_is_only_revoked() {
    check_steps(shared(false), &ENDS);
}

#[test]
fn revoked_is_only_released() {
    for from in [live(), suspect(), stale(), shared(false)] {
        let revoked = after(from, &[Step::Revoke]);
        check_steps(revoked, &ENDS[1..]);
        // Memory that is taken away in the meantime makes no difference.
        for event in EVENTS {
            check_steps(after(revoked, &[Step::Observe(event)]), &ENDS[1..]);
        }
    }
}

#[test]
fn released_stays() {
    for from in [live(), suspect(), stale(), shared(false)] {
        check_steps(after(from, &[Step::Revoke, Step::Release]), &[]);
    }
}

#[test]
fn events_of_the_export_leave_it_suspect_at_worst() {
    for first in EVENTS {
        let mut state = State::new(true);
        state.observe(first);
        assert_eq!(state.bits(), SUSPECT);
        for second in EVENTS {
            let mut state = state;
            state.observe(second);
            assert_eq!(state.bits(), SUSPECT);
            assert_eq!(state.events(), 2);
            state.gathered();
            assert_eq!(state.bits(), SUSPECT);

            // EXPORT itself looks then.
            let settled = |verdict| after(state, &[Step::Settle(verdict)]).bits();
            assert_eq!(settled(Verdict::Same), LIVE);
            assert_eq!(settled(Verdict::Different), STALE);
            assert_eq!(settled(Verdict::Unknown), SUSPECT);
            // An event after it is one like any other, also before the look.
            assert_eq!(after(state, &[Step::Observe(Event::Unmap)]).bits(), STALE);
        }
    }
}

/// A look that an event came into has seen what may not be so any more.
#[test]
fn outdated_look_changes_nothing() {
    for event in EVENTS {
        let mut state = State::new(true);
        state.observe(Event::Clear);
        let looked = state.events();
        state.observe(event);
        state.gathered();
        for verdict in VERDICTS {
            for events in [0, looked, state.events() + 1, u64::MAX] {
                let before = state;
                state.settle(events, verdict);
                assert_eq!(state, before);
            }
        }
    }
}

// --- many steps -------------------------------------------------------------------------------

/// What is known, whatever else has happened.
#[derive(Debug, Default)]
struct Model {
    watched: bool,
    shared: bool,
    /// The memory is known to be another.
    gone: bool,
    /// Since the latest event nobody has seen the memory.
    unseen: bool,
    events: u64,
    revoked: bool,
    released: bool,
}

impl Model {
    fn observe(&mut self, event: Event) {
        self.events += 1;
        self.unseen = true;
        self.gone |= self.shared && event == Event::Unmap;
    }

    fn settle(&mut self, events: u64, verdict: Verdict) {
        if events == self.events && self.unseen {
            self.gone |= verdict == Verdict::Different;
            self.unseen = verdict == Verdict::Unknown;
        }
    }

    fn bits(&self) -> u32 {
        if self.released {
            REVOKED | RELEASED
        } else if self.revoked {
            REVOKED
        } else if !self.watched {
            0
        } else if self.gone {
            STALE
        } else if self.unseen {
            SUSPECT
        } else {
            LIVE
        }
    }
}

/// A step of a long story, in which a look takes its time.
#[derive(Clone, Debug)]
enum Act {
    Observe(Event),
    /// A look begins.
    Look,
    /// One of the looks, the latest if `None`, is over.
    Settle(Option<prop::sample::Index>, Verdict),
    /// As many events as never were.
    SettleAny(u64, Verdict),
    Revoke,
    Release,
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    prop::sample::select(&VERDICTS[..])
}

/// What happens between the start of an export and its end.
fn any_of_export() -> impl Strategy<Value = Act> {
    let look = prop::option::of(any::<prop::sample::Index>());
    prop_oneof![
        4 => prop::sample::select(&EVENTS[..]).prop_map(Act::Observe),
        4 => Just(Act::Look),
        4 => (look, any_verdict()).prop_map(|(look, verdict)| Act::Settle(look, verdict)),
        1 => (prop_oneof![0..20u64, any::<u64>()], any_verdict())
            .prop_map(|(events, verdict)| Act::SettleAny(events, verdict)),
    ]
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        16 => any_of_export(),
        1 => Just(Act::Revoke),
        1 => Just(Act::Release),
    ]
}

/// Both, and the looks that have begun.
struct Both {
    state: State,
    model: Model,
    looks: Vec<u64>,
}

impl Both {
    fn act(&mut self, act: &Act) {
        let (state, model) = (&mut self.state, &mut self.model);
        match act {
            Act::Observe(event) => {
                state.observe(*event);
                model.observe(*event);
            }
            Act::Look => self.looks.push(state.events()),
            Act::Settle(look, verdict) => {
                let events = match look {
                    Some(look) if !self.looks.is_empty() => *look.get(&self.looks),
                    _ => self.looks.last().copied().unwrap_or(0),
                };
                state.settle(events, *verdict);
                model.settle(events, *verdict);
            }
            Act::SettleAny(events, verdict) => {
                state.settle(*events, *verdict);
                model.settle(*events, *verdict);
            }
            Act::Revoke => {
                state.revoke();
                model.revoked = true;
            }
            Act::Release => {
                state.release();
                model.released = true;
            }
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.state.bits(), self.model.bits());
        prop_assert_eq!(self.state.events(), self.model.events);
        prop_assert_eq!(self.state.is_suspect(), self.model.bits() == SUSPECT);
        Ok(())
    }
}

/// The states that one state may become, itself among them.
fn may_follow(bits: u32) -> &'static [u32] {
    const END: u32 = REVOKED | RELEASED;
    match bits {
        0 => &[0, REVOKED, END],
        LIVE => &[LIVE, SUSPECT, STALE, REVOKED, END],
        SUSPECT => &[SUSPECT, LIVE, STALE, REVOKED, END],
        STALE => &[STALE, REVOKED, END],
        REVOKED => &[REVOKED, END],
        END => &[END],
        _ => &[],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_story_is_the_model_s(
        // Mostly: on a kernel without MMU notifiers there is little to tell.
        watched in prop::bool::weighted(0.9),
        export in prop::collection::vec(any_of_export(), 0..8),
        later in prop::collection::vec(any_act(), 0..40),
    ) {
        let mut both = Both {
            state: State::new(watched),
            model: Model { watched, ..Model::default() },
            looks: Vec::new(),
        };
        both.check()?;
        for act in &export {
            both.act(act);
            both.check()?;
        }
        let before = both.state.bits();
        both.state.gathered();
        both.model.shared = true;
        both.check()?;
        prop_assert_eq!(both.state.bits(), before);

        for act in &later {
            let before = both.state;
            both.act(act);
            both.check()?;
            prop_assert!(may_follow(before.bits()).contains(&both.state.bits()));
        }
    }

    /// Without a look, that is, and none is before the memory is gathered.
    #[test]
    fn events_of_an_export_only_make_it_suspect(
        events in prop::collection::vec(prop::sample::select(&EVENTS[..]), 1..20),
    ) {
        let mut state = State::new(true);
        for (count, &event) in events.iter().enumerate() {
            state.observe(event);
            prop_assert_eq!(state.bits(), SUSPECT);
            prop_assert_eq!(state.events(), count as u64 + 1);
        }
        state.gathered();
        prop_assert_eq!(state.bits(), SUSPECT);
    }

    #[test]
    fn stale_is_final_until_revoked(
        acts in prop::collection::vec(any_of_export(), 0..20),
        by_look in any::<bool>(),
    ) {
        let state = if by_look {
            after(suspect(), &[Step::Settle(Verdict::Different)])
        } else {
            stale()
        };
        let mut both = Both { state, model: Model::default(), looks: Vec::new() };
        for act in &acts {
            both.act(act);
            prop_assert_eq!(both.state.bits(), STALE);
        }
        both.act(&Act::Revoke);
        prop_assert_eq!(both.state.bits(), REVOKED);
    }

    #[test]
    fn released_is_final(
        before in prop::collection::vec(any_of_export(), 0..10),
        acts in prop::collection::vec(any_act(), 0..20),
        watched in any::<bool>(),
    ) {
        let state = shared(watched);
        let mut both = Both { state, model: Model::default(), looks: Vec::new() };
        for act in &before {
            both.act(act);
        }
        both.act(&Act::Revoke);
        prop_assert_eq!(both.state.bits(), REVOKED);
        both.act(&Act::Release);
        for act in &acts {
            prop_assert_eq!(both.state.bits(), REVOKED | RELEASED);
            both.act(act);
        }
        prop_assert_eq!(both.state.bits(), REVOKED | RELEASED);
    }

    /// Also where one look is settled, and another from the same time after it.
    #[test]
    fn outdated_looks_change_nothing(
        acts in prop::collection::vec(any_act(), 0..20),
        looks in prop::collection::vec((any::<u64>(), any_verdict()), 1..8),
    ) {
        let mut both = Both { state: live(), model: Model::default(), looks: Vec::new() };
        for act in &acts {
            both.act(act);
        }
        let before = both.state;
        for (events, verdict) in looks {
            // Those just missed, too.
            for events in [events, before.events() + 1, before.events().wrapping_sub(1)] {
                if events != before.events() {
                    both.state.settle(events, verdict);
                    prop_assert_eq!(both.state, before);
                }
            }
        }
    }
}
