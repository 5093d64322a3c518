//! `llorch pools` and `llorch queue`.

use api_types::{PoolList, Queue};

use crate::client::Client;

pub(crate) fn pools(client: &Client) -> anyhow::Result<()> {
    let list: PoolList = client.get("/v1/pools")?;
    let mut rows = vec![
        ["REPLICA", "STATE", "MODEL", "ENGINE", "SLOTS", "CONTEXT", "NOTE"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for pool in list.pools {
        for replica in pool.replicas {
            let version = replica.engine_version.unwrap_or_default();
            let note = if pool.reachable {
                replica.last_error.unwrap_or_default()
            } else {
                "its manager does not answer".into()
            };
            rows.push(vec![
                replica.replica_id,
                replica.state,
                pool.model_id.clone(),
                format!("{} {version}", pool.engine),
                format!("{}/{}", replica.slots_busy, replica.slots),
                replica.context_tokens.to_string(),
                note,
            ]);
        }
    }
    print(&rows);
    Ok(())
}

pub(crate) fn queue(client: &Client) -> anyhow::Result<()> {
    let queue: Queue = client.get("/v1/queue")?;
    let mut rows =
        vec![["MODEL", "CLASS", "QUEUED", "RUNNING", "OLDEST"].map(str::to_owned).to_vec()];
    for lane in queue.lanes {
        let oldest = lane.oldest_wait_ms.map_or("-".into(), |ms| format!("{} s", ms / 1_000));
        rows.push(vec![
            lane.model_id,
            lane.priority.as_str().into(),
            lane.depth.to_string(),
            lane.running.to_string(),
            oldest,
        ]);
    }
    print(&rows);
    println!("{} queued, {} fit for each model", queue.depth, queue.capacity);
    Ok(())
}

fn print(rows: &[Vec<String>]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..rows[0].len()).filter_map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}
