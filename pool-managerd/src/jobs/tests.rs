//! Who commands, and what is remembered.

use pool_api::{JobError, JobRequest, JobState, Order};

use super::{JOBS_MAX, Jobs, Refused};

fn load(epoch: u64, replica: &str) -> JobRequest {
    JobRequest { epoch, order: Order::Load { replica_id: replica.into() } }
}

// OC-POOL-3043
#[test]
fn the_orchestrator_that_started_last_commands() {
    let jobs = Jobs::default();
    assert!(jobs.put("a", load(5, "p-0")).is_ok());
    assert!(jobs.put("b", load(7, "p-0")).is_ok());
    let refused = jobs.put("c", load(6, "p-0")).err();
    assert_eq!(refused, Some(Refused::StaleEpoch { found: 6, highest: 7 }));
    assert!(jobs.get("c").is_none());
    assert!(jobs.put("c", load(7, "p-0")).is_ok());
}

// OC-POOL-3043
#[test]
fn repeating_an_order_is_harmless_and_an_id_means_one_order() {
    let jobs = Jobs::default();
    assert!(jobs.put("a", load(1, "p-0")).is_ok_and(|it| it.is_new));
    jobs.finish("a", Err(JobError { code: "BUSY".into(), message: "it runs".into() }));
    let again = jobs.put("a", load(2, "p-0")).ok().unwrap();
    assert!(!again.is_new);
    assert_eq!(again.job.state, JobState::Failed);
    let refused = jobs.put("a", load(2, "p-1")).err();
    assert_eq!(refused, Some(Refused::Conflict { id: "a".into() }));
    // What has ended stays as it is.
    jobs.finish("a", Ok(()));
    assert_eq!(jobs.get("a").unwrap().error.unwrap().code, "BUSY");
}

#[test]
fn jobs_that_run_are_not_forgotten_for_new_ones() {
    let jobs = Jobs::default();
    for number in 0..JOBS_MAX {
        assert!(jobs.put(&number.to_string(), load(1, "p-0")).is_ok());
    }
    assert_eq!(jobs.put("more", load(1, "p-0")).err(), Some(Refused::TooMany));
    jobs.finish("7", Ok(()));
    assert!(jobs.put("more", load(1, "p-0")).is_ok());
    assert!(jobs.get("7").is_none() && jobs.get("0").is_some());
    assert_eq!(jobs.all().len(), JOBS_MAX);
}
