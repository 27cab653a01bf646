//! One thread beside the serving one: signals, systemd, metrics and health.

use std::future::pending;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_io::{Async, Timer};
use futures::channel::oneshot;
use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _, select};

use crate::http::{self, Site};
use crate::metrics::Metrics;
use crate::notify;
use crate::reload::Reload;
use crate::scribe::scribe;
use crate::signals::{Wish, wishes};

/// Room for the supervisor's thread: it renders pages, and nothing of it is deep.
const STACK: usize = 512 << 10;

/// Whoever is supervised: a server whose serving loop tells how it is.
pub trait Subject: Send + Sync + 'static {
    /// How it is now. The answer should come from the serving loop itself, since it also shows that the loop goes
    /// round; `None` once it is gone.
    fn look(&self) -> BoxFuture<'static, Option<View>>;
}

/// How a server is.
#[derive(Debug, Default)]
pub struct View {
    /// Its numbers.
    pub metrics: Metrics,
    /// Its status page: HTML that needs nothing from elsewhere and no script.
    pub page: String,
    /// A line for the service manager.
    pub summary: String,
}

/// The thread that does what is asked of the process from outside.
#[derive(Debug)]
pub struct Supervisor {
    stop: oneshot::Receiver<()>,
}

impl Supervisor {
    /// Starts the thread, and the one that writes the log, and tells the service manager that the server is ready: its sockets are open.
    ///
    /// # Errors
    ///
    /// The system has no room for the thread, its listener or its signals.
    pub fn start(
        subject: Arc<dyn Subject>,
        metrics: Option<TcpListener>,
        reload: Reload,
    ) -> io::Result<Self> {
        // Privileges are given up: from now on there may be threads.
        scribe().start()?;
        let wishes = wishes()?;
        let metrics = metrics.map(Async::new_nonblocking).transpose()?;
        let (stopper, stop) = oneshot::channel();
        let is_stopping = Arc::new(AtomicBool::new(false));
        let site = Site { subject, is_stopping };
        let work = move || async_io::block_on(supervise(wishes, metrics, site, (stopper, reload)));
        std::thread::Builder::new().name("supervisor".to_owned()).stack_size(STACK).spawn(work)?;
        notify::ready("serving");
        Ok(Self { stop })
    }

    /// Ready when the process is asked to stop. A second signal then ends it at once.
    pub async fn stopped(self) {
        // The supervisor is gone only if it panicked: then nobody could stop the server but by force.
        let _ = self.stop.await;
    }
}

async fn supervise(
    wishes: impl Stream<Item = Wish> + Unpin,
    metrics: Option<Async<TcpListener>>,
    site: Site,
    (stopper, reload): (oneshot::Sender<()>, Reload),
) {
    let answering = async {
        match metrics {
            Some(listener) => http::serve(listener, site.clone()).await,
            None => pending().await,
        }
    };
    let obeying = obey(wishes, &site, (stopper, reload));
    let watching = watch(&site);
    select! {
        () = answering.fuse() => {}
        () = obeying.fuse() => {}
        () = watching.fuse() => {}
    }
}

async fn obey(
    mut wishes: impl Stream<Item = Wish> + Unpin,
    site: &Site,
    (stopper, mut reload): (oneshot::Sender<()>, Reload),
) {
    let mut stopper = Some(stopper);
    while let Some(wish) = wishes.next().await {
        match (wish, stopper.take()) {
            (Wish::Reload, Some(still)) => {
                notify::reloading();
                reload.reload();
                notify::ready("serving");
                stopper = Some(still);
            }
            (Wish::Reload, None) => {}
            (Wish::Stop { .. }, Some(stopper)) => {
                site.is_stopping.store(true, Ordering::Relaxed);
                notify::stopping("letting its peers go");
                tracing::info!("stopping; a second signal ends it at once");
                // If nobody listens the server has ended already.
                let _ = stopper.send(());
            }
            (Wish::Stop { status }, None) => {
                tracing::warn!("a second signal: ended at once");
                scribe().finish();
                std::process::exit(status);
            }
        }
    }
}

/// Tells the service manager's watchdog that the serving loop goes round, and what it does.
async fn watch(site: &Site) {
    let Some(interval) = notify::watchdog() else { return pending().await };
    loop {
        Timer::after(interval).await;
        match http::look(&*site.subject).await {
            Some(view) => notify::alive(&view.summary),
            None => tracing::error!("the serving loop does not answer"),
        }
    }
}
