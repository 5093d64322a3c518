//! What may go, and when.

use std::collections::BTreeMap;

use super::*;

fn id(name: &str) -> BlobId {
    BlobId::of(name.as_bytes())
}

fn facts(kept_from_ms: u64, parents: &[&str]) -> Facts {
    Facts {
        kind: ArtifactKind::Plan,
        media_type: MediaType::Text,
        bytes: 1,
        tags: Vec::new(),
        parents: parents.iter().map(|it| id(it)).collect(),
        task_id: None,
        created_at_ms: 1,
        kept_from_ms,
    }
}

fn inventory(all: &[(&str, u64, &[&str])]) -> Inventory {
    let found = all.iter().map(|(name, at, parents)| (id(name), facts(*at, parents)));
    Inventory::new(found.collect())
}

/// ORCH-3097
#[test]
fn what_is_kept_keeps_what_it_names_and_no_more() {
    // Whichever of their ids comes first, a start finds the same.
    for name in ["b", "c", "d", "e"] {
        let mut inventory =
            inventory(&[("a", 1, &[]), (name, 2, &["a"]), ("leaf", 9, &[name]), ("x", 1, &[])]);
        assert_eq!(inventory.take_expired(9, 9), [id("x")]);
        assert!(inventory.get(&id("a")).is_some());
        assert_eq!(inventory.take_expired(10, 9), [id("leaf"), id(name), id("a")]);
        assert_eq!((inventory.charged(), inventory.oldest_ms()), (0, None));
    }
}

/// ORCH-3097
#[test]
fn a_parent_goes_when_its_last_child_has_gone() {
    let mut inventory = inventory(&[("a", 1, &[])]);
    inventory.insert(id("b"), Arc::new(facts(2, &["a"])));
    inventory.insert(id("c"), Arc::new(facts(5, &["a"])));
    assert_eq!(inventory.take_expired(4, 9), [id("b")]);
    assert_eq!(inventory.take_expired(4, 9), []);
    assert_eq!(inventory.take_expired(6, 1), [id("c")]);
    assert_eq!(inventory.take_expired(6, 1), [id("a")]);
}

/// ORCH-3097
#[test]
fn what_is_stored_again_is_kept_for_longer_and_charged_once() {
    let mut inventory = inventory(&[("a", 1, &[]), ("b", 1, &["a"])]);
    let charged = inventory.charged();
    inventory.insert(id("b"), Arc::new(facts(7, &["a"])));
    inventory.insert(id("a"), Arc::new(facts(3, &[])));
    assert_eq!((inventory.charged(), inventory.oldest_ms()), (charged, Some(7)));
    assert_eq!(inventory.take_expired(7, 9), []);
    assert_eq!(inventory.take_expired(8, 9), [id("b"), id("a")]);
}

/// OC-CTRL-2071
#[test]
fn a_task_finds_its_transcript_also_where_a_client_stored_the_same_before() {
    let task = Uuid::from_u128(7);
    let draft = Draft {
        kind: ArtifactKind::Transcript,
        media_type: MediaType::Json,
        content: "1".into(),
        tags: vec!["late".into()],
        parents: Vec::new(),
        task_id: Some(task),
    };
    let mut inventory = inventory(&[("a", 1, &[])]);
    let first = inventory.get(&id("a")).unwrap();
    assert_eq!(inventory.transcript_of(task), None);
    let again = first.again(&draft, 5);
    assert_eq!((again.kind, again.tags.len(), again.kept_from_ms), (ArtifactKind::Plan, 0, 5));
    // A client that stores the transcript takes it from nobody.
    let plain = Draft { task_id: None, ..draft };
    inventory.insert(id("a"), Arc::new(again.again(&plain, 6)));
    assert_eq!(inventory.transcript_of(task), Some(id("a")));
    assert_eq!(inventory.take_expired(7, 9), [id("a")]);
    assert_eq!(inventory.transcript_of(task), None);
}

/// ORCH-3097
#[test]
fn a_charge_is_in_blocks_and_never_nothing() {
    let charge = |bytes| Facts { bytes, ..facts(1, &[]) }.charge();
    let charges = [0, 1, 4_096, 4_097].map(charge);
    assert_eq!(charges, [4_096, 8_192, 8_192, 12_288]);
    let full: BTreeMap<BlobId, Facts> = [(id("a"), facts(1, &[]))].into();
    assert_eq!(Inventory::new(full).charged(), 8_192);
}
