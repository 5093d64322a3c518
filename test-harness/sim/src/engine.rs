//! A replica with slots: prefill, decode that slows with the batch, ends to the microsecond.
//!
//! Integers only: work is counted in nano-tokens, rates in nano-tokens per microsecond.

use orchestrator_core::Run;

const NANO: u64 = 1_000_000_000;

/// How fast a slot is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Tokens per second and slot.
    pub(crate) prefill: u64,
    /// Of a slot that is alone; with all slots in use it is 0.7 of that, linear between.
    pub(crate) decode: u64,
}

impl Pace {
    /// Nano-tokens per microsecond of each of `running` sequences.
    fn decode_rate(self, running: usize, slots: u32) -> u64 {
        let alone = self.decode * NANO / 1_000_000;
        let others = (running.max(1) - 1) as u64;
        alone - alone * 3 * others / (10 * u64::from(slots.max(2) - 1))
    }
}

/// What a sequence still has to do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// Tokens: prompt, then answer.
    Tokens { prefill: u32, output: u32 },
    /// A fixed time, whatever else runs.
    Fixed { micros: u64 },
}

#[derive(Debug, Clone)]
pub(crate) struct Sequence {
    pub(crate) run: Run,
    /// Microseconds of prefill, or of fixed work.
    front: u64,
    /// Nano-tokens of decode.
    left: u64,
    output: u32,
    pub(crate) prefilled: bool,
    /// Tokens told to the core so far, and when.
    pub(crate) told: u32,
    pub(crate) told_at: u64,
}

impl Sequence {
    /// Tokens made so far.
    pub(crate) fn made(&self) -> u32 {
        self.output - u32::try_from(self.left.div_ceil(NANO)).unwrap_or(u32::MAX).min(self.output)
    }

    fn is_done(&self) -> bool {
        self.prefilled && self.left == 0
    }
}

/// What happens next on an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A prompt has been worked on.
    Prefilled(Run),
    Done(Run),
}

#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) slots: u32,
    pace: Pace,
    pub(crate) sequences: Vec<Sequence>,
    updated: u64,
    /// Raised by each change: what was scheduled before is stale.
    pub(crate) version: u64,
    pub(crate) incarnation: u64,
}

impl Engine {
    pub(crate) fn new(slots: u32, pace: Pace) -> Self {
        Self { slots, pace, sequences: Vec::new(), updated: 0, version: 0, incarnation: 1 }
    }

    pub(crate) fn start(&mut self, now: u64, run: Run, work: Work) {
        self.advance(now);
        let (front, output) = match work {
            Work::Tokens { prefill, output } => {
                (u64::from(prefill) * 1_000_000 / self.pace.prefill, output)
            }
            Work::Fixed { micros } => (micros, 0),
        };
        self.sequences.push(Sequence {
            run,
            front,
            left: u64::from(output) * NANO,
            output,
            prefilled: false,
            told: 0,
            told_at: now,
        });
        self.version += 1;
    }

    pub(crate) fn remove(&mut self, now: u64, run: Run) -> Option<Sequence> {
        self.advance(now);
        let index = self.sequences.iter().position(|it| it.run == run)?;
        self.version += 1;
        Some(self.sequences.remove(index))
    }

    /// The process dies.
    pub(crate) fn crash(&mut self, now: u64) -> Vec<Sequence> {
        self.advance(now);
        self.version += 1;
        self.incarnation += 1;
        std::mem::take(&mut self.sequences)
    }

    /// Moves all sequences on to `now`.
    pub(crate) fn advance(&mut self, now: u64) {
        let rate = self.pace.decode_rate(self.sequences.len(), self.slots);
        let span = now - self.updated;
        self.updated = now;
        for it in &mut self.sequences {
            let front = it.front.min(span);
            it.front -= front;
            if it.prefilled {
                it.left = it.left.saturating_sub((span - front) * rate);
            }
        }
    }

    /// When the next step is due.
    pub(crate) fn next_at(&self) -> Option<u64> {
        let rate = self.pace.decode_rate(self.sequences.len(), self.slots);
        let until = |it: &Sequence| if it.prefilled { it.left.div_ceil(rate) } else { it.front };
        self.sequences.iter().map(|it| self.updated + until(it)).min()
    }

    /// Takes what is due; call after [`Self::advance`] until it is `None`.
    pub(crate) fn take_step(&mut self) -> Option<Step> {
        let index =
            self.sequences.iter().position(|it| it.is_done() || !it.prefilled && it.front == 0)?;
        self.version += 1;
        let it = &mut self.sequences[index];
        if it.is_done() {
            return Some(Step::Done(it.run));
        }
        it.prefilled = true;
        Some(Step::Prefilled(it.run))
    }
}

#[cfg(test)]
mod tests {
    use orchestrator_core::{Attempt, ReplicaId, TaskId};

    use super::*;

    fn run(task: u64) -> Run {
        Run { task: TaskId(task), attempt: Attempt(1), replica: ReplicaId(0) }
    }

    /// When each of `count` equal sequences is done.
    fn ends(count: u64, slots: u32, prefill: u32, output: u32) -> Vec<u64> {
        let mut engine = Engine::new(slots, Pace { prefill: 2_000, decode: 40 });
        (0..count).for_each(|it| engine.start(0, run(it), Work::Tokens { prefill, output }));
        let mut ends = Vec::new();
        while let Some(at) = engine.next_at() {
            engine.advance(at);
            while let Some(step) = engine.take_step() {
                if let Step::Done(done) = step {
                    ends.push(at);
                    engine.remove(at, done);
                }
            }
        }
        ends
    }

    #[test]
    fn one_task_alone_takes_its_prefill_and_its_decode() {
        assert_eq!(ends(1, 8, 2_000, 40), [2_000_000]);
        assert_eq!(ends(1, 8, 1_000, 400), [10_500_000]);
    }

    #[test]
    fn a_full_batch_decodes_at_seven_tenths() {
        // 28 tokens at 40 × 0.7 a second.
        assert_eq!(ends(8, 8, 0, 28), [1_000_000; 8]);
        assert_eq!(ends(2, 2, 0, 28), [1_000_000; 2]);
    }
}
