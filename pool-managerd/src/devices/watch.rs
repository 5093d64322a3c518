//! The thread that watches GPUs: their errors as they come, their figures now and then.

use std::sync::Arc;
use std::time::Duration;

use super::Devices;
use crate::replica::Site;

const EVERY: Duration = Duration::from_secs(2);

/// Starts it if there is a GPU to be watched. It ends with the process: a driver that hangs must not
/// keep the daemon from stopping.
pub(crate) fn watch(site: &Arc<Site>) -> std::io::Result<()> {
    let uuids = site.devices.uuids();
    if uuids.is_empty() {
        return Ok(());
    }
    site.tracker.spawn(listen_for_silence(Arc::clone(site)));
    let site = Arc::clone(site);
    let thread = std::thread::Builder::new().name("nvml".into());
    thread.spawn(move || run(&site, &uuids)).map(drop)
}

/// The thread itself cannot tell that it waits in vain.
async fn listen_for_silence(site: Arc<Site>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = site.stop.cancelled() => return,
        }
        site.devices.notice_silence();
        site.host.set_devices(site.devices.all());
    }
}

fn run(site: &Site, uuids: &[String]) {
    let Some(gpus) = &site.devices.gpus else { return };
    let mut errors = gpus.errors(uuids);
    if errors.is_none() {
        tracing::info!("the driver does not tell of XID errors");
    }
    loop {
        site.devices.look();
        site.host.set_devices(site.devices.all());
        site.devices.show(site);
        let limit = u32::try_from(EVERY.as_millis()).unwrap_or(u32::MAX);
        match errors.as_ref().map(|it| it.next(limit)) {
            Some(Ok(Some(xid))) => site.devices.failed(&xid),
            Some(Ok(None)) => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "the driver's errors are no longer told");
                errors = None;
            }
            None => pause(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, which nothing waits for")]
fn pause() {
    std::thread::sleep(EVERY);
}

impl Devices {
    /// Of those that NVML knows.
    fn uuids(&self) -> Vec<String> {
        let seen = self.seen.lock().expect("no holder panics");
        seen.iter().filter_map(|it| it.identity.as_ref()).map(|it| it.uuid.clone()).collect()
    }

    /// Shows each reading with every pool that runs on the device.
    fn show(&self, site: &Site) {
        let seen = self.seen.lock().expect("no holder panics").clone();
        let readings = seen.iter().filter_map(|it| Some((&it.device, it.reading.as_ref()?)));
        for (device, reading) in readings {
            let on_it = |devices: &Vec<String>| devices.contains(&device.device_id);
            for pool in site.config.pools.iter().filter(|it| on_it(&it.devices)) {
                site.telemetry.device(&pool.id, &device.device_id, reading);
            }
        }
    }
}
