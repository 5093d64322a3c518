//! What is sent again, and how often.

use std::cell::Cell;
use std::time::Duration;

use adapter_api::{EngineError, retry};
use tokio::time::Instant;

async fn attempts(error: &EngineError) -> u32 {
    let start = Instant::now();
    let count = Cell::new(0);
    let result: Result<(), _> = retry(|| async {
        count.set(count.get() + 1);
        Err(error.clone())
    })
    .await;
    assert_eq!(result.as_ref(), Err(error));
    // Full jitter over 50 ms and then 100 ms.
    assert!(start.elapsed() <= Duration::from_millis(152), "{:?}", start.elapsed());
    count.get()
}

// OC-ADAPT-5082
#[tokio::test(start_paused = true)]
async fn only_what_no_engine_worked_on_is_sent_again_and_three_times_at_most() {
    assert_eq!(attempts(&EngineError::Unreachable { message: String::new() }).await, 3);
    assert_eq!(attempts(&EngineError::NotReady { message: String::new() }).await, 3);
    assert_eq!(attempts(&EngineError::BadRequest { message: String::new() }).await, 1);
    let overflow = EngineError::ContextOverflow { prompt_tokens: 2, context_tokens: 1 };
    assert_eq!(attempts(&overflow).await, 1);
}

// OC-ADAPT-5082
#[tokio::test(start_paused = true)]
async fn the_first_success_ends_the_retries() {
    let count = Cell::new(0);
    let result = retry(|| async {
        count.set(count.get() + 1);
        if count.get() < 2 { Err(EngineError::Overloaded { retry_after_ms: None }) } else { Ok(7) }
    })
    .await;
    assert_eq!((result, count.get()), (Ok(7), 2));
}
