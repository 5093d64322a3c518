//! What one tenant's artifacts are, without their contents, and which of them may go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api_types::{ArtifactKind, MediaType};
use artifact_store::BlobId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Draft;

/// What a disk gives a file at least.
const BLOCK: u64 = 4_096;

/// What is told of an artifact, as it stands in the journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) kind: ArtifactKind,
    pub(crate) media_type: MediaType,
    pub(crate) bytes: u64,
    pub(crate) tags: Vec<String>,
    pub(crate) parents: Vec<BlobId>,
    /// The task that it is the transcript of.
    pub(crate) task_id: Option<Uuid>,
    /// Since 1970.
    pub(crate) created_at_ms: u64,
    /// When it was last stored, since 1970: its time to live counts from then.
    pub(super) kept_from_ms: u64,
}

impl Facts {
    pub(super) fn new(draft: &Draft, now_ms: u64) -> Self {
        Self {
            kind: draft.kind,
            media_type: draft.media_type,
            bytes: draft.content.len() as u64,
            tags: draft.tags.clone(),
            parents: draft.parents.clone(),
            task_id: draft.task_id,
            created_at_ms: now_ms,
            kept_from_ms: now_ms,
        }
    }

    /// As it is told of once its content is stored again: as the first said, kept from now on. A task
    /// has its transcript also where a client stored the same before.
    pub(super) fn again(&self, draft: &Draft, now_ms: u64) -> Self {
        Self { kept_from_ms: now_ms, task_id: self.task_id.or(draft.task_id), ..self.clone() }
    }

    /// What it takes of a quota: the blocks of its content, and one for what is told of it, so that
    /// a quota bounds the number of the smallest, too.
    pub(super) fn charge(&self) -> u64 {
        (self.bytes.div_ceil(BLOCK) + 1).saturating_mul(BLOCK)
    }
}

#[derive(Default)]
pub(super) struct Inventory {
    all: BTreeMap<BlobId, Entry>,
    /// Those that no other names as its parent, the longest unused first: what may go.
    leaves: BTreeSet<(u64, BlobId)>,
    /// By their tasks.
    transcripts: BTreeMap<Uuid, BlobId>,
    charged: u64,
}

struct Entry {
    facts: Arc<Facts>,
    /// Artifacts that name it as their parent.
    children: u32,
}

impl Inventory {
    pub(super) fn new(found: BTreeMap<BlobId, Facts>) -> Self {
        let mut inventory = Self::default();
        let found: Vec<_> = found.into_iter().map(|(id, facts)| (id, Arc::new(facts))).collect();
        found.iter().for_each(|(id, facts)| inventory.place(*id, Arc::clone(facts)));
        found.iter().for_each(|(_, facts)| inventory.link(facts));
        inventory
    }

    pub(super) fn get(&self, id: &BlobId) -> Option<Arc<Facts>> {
        self.all.get(id).map(|it| Arc::clone(&it.facts))
    }

    pub(super) fn transcript_of(&self, task: Uuid) -> Option<BlobId> {
        self.transcripts.get(&task).copied()
    }

    /// Of the quota.
    pub(super) fn charged(&self) -> u64 {
        self.charged
    }

    /// When the one that goes next was last stored.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        self.leaves.first().map(|it| it.0)
    }

    /// Takes in a new one, or what is told of a known one from now on.
    pub(super) fn insert(&mut self, id: BlobId, facts: Arc<Facts>) {
        if let Some(entry) = self.all.get_mut(&id) {
            if self.leaves.remove(&(entry.facts.kept_from_ms, id)) {
                self.leaves.insert((facts.kept_from_ms, id));
            }
            self.transcripts.extend(facts.task_id.map(|it| (it, id)));
            entry.facts = facts;
            return;
        }
        self.place(id, Arc::clone(&facts));
        self.link(&facts);
    }

    fn place(&mut self, id: BlobId, facts: Arc<Facts>) {
        self.charged += facts.charge();
        self.leaves.insert((facts.kept_from_ms, id));
        self.transcripts.extend(facts.task_id.map(|it| (it, id)));
        self.all.insert(id, Entry { facts, children: 0 });
    }

    /// Counts it as a child of its parents.
    fn link(&mut self, facts: &Facts) {
        for parent in &facts.parents {
            if let Some(entry) = self.all.get_mut(parent) {
                entry.children += 1;
                self.leaves.remove(&(entry.facts.kept_from_ms, *parent));
            }
        }
    }

    /// Takes out those that were last stored before `until_ms` and are nobody's parent, at most `limit`.
    pub(super) fn take_expired(&mut self, until_ms: u64, limit: usize) -> Vec<BlobId> {
        let mut taken = Vec::new();
        while let Some((_, id)) = self.leaves.first().copied().filter(|it| it.0 < until_ms) {
            if taken.len() == limit {
                break;
            }
            self.remove(&id);
            taken.push(id);
        }
        taken
    }

    fn remove(&mut self, id: &BlobId) {
        let Entry { facts, .. } = self.all.remove(id).expect("a leaf is there");
        self.leaves.remove(&(facts.kept_from_ms, *id));
        self.charged -= facts.charge();
        if let Some(task) = facts.task_id {
            self.transcripts.remove(&task);
        }
        for parent in &facts.parents {
            let Some(entry) = self.all.get_mut(parent) else { continue };
            entry.children -= 1;
            if entry.children == 0 {
                self.leaves.insert((entry.facts.kept_from_ms, *parent));
            }
        }
    }
}

#[cfg(test)]
mod tests;
