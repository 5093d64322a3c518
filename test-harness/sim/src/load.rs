//! Where tasks come from, and what is true of each.

use orchestrator_core::{Class, Ending, EngineId, Micros, ModelId, TaskId, TaskSpec, TenantId};

use crate::random::{Lengths, Random};
use crate::world::micros;

/// A task as only the simulator knows it.
#[derive(Debug, Clone)]
pub(crate) struct Truth {
    pub(crate) source: usize,
    pub(crate) tenant: TenantId,
    pub(crate) class: Class,
    pub(crate) prompt: u32,
    pub(crate) output: u32,
    /// Takes this long instead of prefill and decode.
    pub(crate) fixed: Option<u64>,
    /// Kills the engine at the end of its prefill.
    pub(crate) poison: bool,
    pub(crate) arrived: u64,
    pub(crate) deadline: Option<u64>,
    pub(crate) admitted: bool,
    pub(crate) predicted: Option<u64>,
    pub(crate) p90: Option<u64>,
    pub(crate) dispatched: Option<u64>,
    pub(crate) first_token: Option<u64>,
    /// `None` inside: refused.
    pub(crate) ended: Option<(u64, Option<Ending>)>,
    pub(crate) kept: u32,
    pub(crate) attempts: u32,
    pub(crate) preemptions: u32,
    pub(crate) kills: u32,
}

impl Truth {
    /// From arrival to the first dispatch; for one that still waits, until `now`.
    pub(crate) fn wait(&self, now: u64) -> u64 {
        let until = self.dispatched.or(self.ended.map(|it| it.0)).unwrap_or(now);
        until - self.arrived
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.ended, Some((_, Some(Ending::Completed))))
    }
}

/// A stream of tasks.
pub(crate) struct Source {
    pub(crate) tenant: TenantId,
    pub(crate) class: Class,
    pub(crate) models: u32,
    pub(crate) lengths: Lengths,
    pub(crate) random: Random,
    pub(crate) arrivals: Arrivals,
    /// Mean of a fixed service time in seconds, and the limit it is clipped to.
    pub(crate) service_s: Option<(f64, f64)>,
    /// The deadline is the service time × a uniform factor between these; the caller then knows the
    /// length and says so.
    pub(crate) deadline: Option<(f64, f64)>,
    /// Seconds per output token in a full batch, and per prompt token.
    pub(crate) seconds: (f64, f64),
    /// One task in so many kills engines; 0: none.
    pub(crate) poison_every: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Arrivals {
    /// Poisson, with this mean distance in seconds.
    Open { mean_s: f64 },
    /// This many always wait.
    Backlog { tasks: u32 },
    /// This many callers who submit one at a time and think between, for seconds.
    Closed { callers: u32, think_s: f64 },
    /// All at these times, in microseconds.
    Burst { tasks: u32, at: u64 },
}

impl Source {
    pub(crate) fn new(tenant: u32, lengths: Lengths, random: Random, arrivals: Arrivals) -> Self {
        Self {
            tenant: TenantId(tenant),
            class: Class::Interactive,
            models: 1,
            lengths,
            random,
            arrivals,
            service_s: None,
            deadline: None,
            seconds: (0.0, 0.0),
            poison_every: 0,
        }
    }

    pub(crate) fn first_arrivals(&mut self) -> Vec<u64> {
        match self.arrivals {
            Arrivals::Open { mean_s } => vec![micros(self.random.exponential(mean_s))],
            Arrivals::Backlog { tasks } => vec![0; tasks as usize],
            Arrivals::Closed { callers, .. } => vec![0; callers as usize],
            Arrivals::Burst { tasks, at } => vec![at; tasks as usize],
        }
    }

    /// When the source submits another one, because one of its tasks started.
    pub(crate) fn on_dispatch(&mut self, now: u64) -> Option<u64> {
        matches!(self.arrivals, Arrivals::Backlog { .. }).then_some(now)
    }

    /// The same, because one ended.
    pub(crate) fn on_end(&mut self, now: u64) -> Option<u64> {
        match self.arrivals {
            Arrivals::Closed { think_s, .. } => Some(now + micros(think_s)),
            Arrivals::Open { .. } | Arrivals::Backlog { .. } | Arrivals::Burst { .. } => None,
        }
    }

    /// The next task, and when an open stream brings the one after it.
    pub(crate) fn draw(
        &mut self,
        source: usize,
        id: u64,
        now: u64,
    ) -> (Truth, TaskSpec, Option<u64>) {
        let (prompt, output) = self.lengths.draw(&mut self.random);
        let model = ModelId(u32::try_from(self.random.below(self.models.into())).unwrap_or(0));
        let fixed = self
            .service_s
            .map(|(mean, limit)| micros(self.random.exponential(mean).min(limit)).max(1));
        let poison = self.poison_every != 0 && self.random.below(self.poison_every) == 0;
        let deadline = self.deadline.map(|(low, high)| {
            let (output_s, prompt_s) = self.seconds;
            let service = f64::from(prompt) * prompt_s + f64::from(output) * output_s;
            micros(service * self.random.uniform(low, high))
        });
        let next = match self.arrivals {
            Arrivals::Open { mean_s } => Some(now + micros(self.random.exponential(mean_s))),
            Arrivals::Backlog { .. } | Arrivals::Closed { .. } | Arrivals::Burst { .. } => None,
        };
        let max_tokens = (2 * output).max(16);
        let truth = Truth {
            source,
            tenant: self.tenant,
            class: self.class,
            prompt,
            output,
            fixed,
            poison,
            arrived: now,
            deadline: deadline.map(|it| now + it),
            admitted: false,
            predicted: None,
            p90: None,
            dispatched: None,
            first_token: None,
            ended: None,
            kept: 0,
            attempts: 0,
            preemptions: 0,
            kills: 0,
        };
        let spec = TaskSpec {
            task: TaskId(id),
            model,
            tenant: self.tenant,
            class: self.class,
            prompt_tokens: prompt,
            max_tokens,
            expected_tokens: deadline.map(|_| output),
            deadline: deadline.map(Micros),
            ttl: None,
            session: None,
            resumable: true,
            engine: None::<EngineId>,
            pools: None,
        };
        (truth, spec, next)
    }
}
