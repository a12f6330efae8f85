//! A network of the fault run's own: some processes run on hosts of their own, which are network namespaces, and every
//! IP packet to and from one of those passes a [`Link`] that can delay it, drop it, or be cut.
//!
//! The kernels that such tests run on often lack `netem`, so the link is a relay in user space between two TUN devices,
//! one on either side. What TCP makes of a packet that is late or gone is the kernel's own doing, as in reality.
//!
//! `./ops/faults` starts the run in a network namespace without any other interface, so nothing outside is touched, and
//! everything is gone when the last process ends. [`link`]: the relay.

mod link;

use std::{
    io::{self, ErrorKind, Read as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    ops::RangeInclusive,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tappers::{Interface, Tun};

pub(crate) use self::link::Conditions;
use self::link::Link;

/// Where services listen that every host reaches.
const SERVICES: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// All hosts.
pub(crate) struct Network {
    hosts: Vec<Host>,
}

/// A host: a network namespace behind a link.
pub(crate) struct Host {
    address: Ipv4Addr,
    /// Holds the namespace open, until its input ends with this process.
    holder: Child,
    link: Arc<Link>,
}

impl Network {
    /// Where services listen that every host reaches.
    pub(crate) fn services(&self) -> Ipv4Addr {
        SERVICES
    }

    /// Makes so many hosts, and tries their links.
    ///
    /// # Errors
    /// When this machine, or this user, may not have namespaces or TUN devices: the reason.
    pub(crate) fn new(count: u8, seed: u64) -> Result<Self> {
        run(&["ip", "link", "set", "lo", "up"])?;
        run(&["ip", "address", "add", &format!("{SERVICES}/32"), "dev", "lo"])?;
        let hosts = (1..=count).map(|number| Host::new(number, seed)).collect::<Result<Vec<_>>>()?;
        for host in &hosts {
            host.prove().with_context(|| format!("the link of {} does not do what it is told", host.address))?;
        }
        Ok(Self { hosts })
    }

    /// One of the hosts.
    pub(crate) fn host(&self, number: usize) -> &Host {
        &self.hosts[number]
    }
}

impl Host {
    fn new(number: u8, seed: u64) -> Result<Self> {
        let (near, far) = (Ipv4Addr::new(10, 77, number, 1), Ipv4Addr::new(10, 77, number, 2));
        let mut holder = Command::new("unshare");
        // It says a word when it is in its namespace.
        holder.args(["--net", "sh", "-c", "ip link set lo up && echo && exec cat"]);
        let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot run unshare")?;
        let mut word = [0];
        let said = holder.stdout.as_mut().context("unshare has no output")?.read_exact(&mut word);
        said.context("unshare cannot make a network namespace")?;
        let pid = holder.id().to_string();
        // Both are made here; the far one is moved.
        let device = |name: &str| {
            let device = Interface::new(name).and_then(Tun::new_named);
            device.with_context(|| format!("cannot make the TUN device {name} (hint: /dev/net/tun)"))
        };
        let (near_name, far_name) = (format!("near{number}"), format!("far{number}"));
        let (near_device, far_device) = (device(&near_name)?, device(&far_name)?);
        run(&["ip", "link", "set", &far_name, "netns", &pid])?;
        let (near_text, far_text) = (near.to_string(), far.to_string());
        run(&["ip", "address", "add", &near_text, "peer", &far_text, "dev", &near_name])?;
        run(&["ip", "link", "set", &near_name, "up"])?;
        let inside = |line: &[&str]| {
            let namespace = namespace(&holder);
            run(&[&["nsenter", &namespace], line].concat())
        };
        inside(&["ip", "address", "add", &far_text, "peer", &near_text, "dev", &far_name])?;
        inside(&["ip", "link", "set", &far_name, "up"])?;
        inside(&["ip", "route", "add", "default", "via", &near_text])?;
        let link = Link::between(near_device, far_device, seed ^ u64::from(number))?;
        Ok(Self { address: far, holder, link })
    }

    /// Where its processes listen.
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// What to put in front of a command, so that it runs there.
    pub(crate) fn command(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), namespace(&self.holder), "--".to_owned()]
    }

    /// From now on packets from or to these ports fare like this. All others pass.
    pub(crate) fn change(&self, ports: RangeInclusive<u16>, conditions: Conditions) {
        self.link.change(Some((ports, conditions)));
    }

    /// From now on all packets pass. Says how many were dropped, and how many were late, since the change.
    ///
    /// # Errors
    /// None were: then nothing was broken.
    pub(crate) fn heal(&self) -> Result<()> {
        let harmed = self.link.change(None);
        ensure!(harmed > 0, "no packet passed the link of {}: nothing was broken", self.address);
        Ok(())
    }

    /// Nobody listens on a port, so a connection is refused: by the kernel on the other side, as soon as the packets
    /// come through, which is a way to see the link work.
    fn prove(&self) -> Result<()> {
        const NOBODY: u16 = 9;
        const DELAY: Duration = Duration::from_millis(40);
        let within = |patience: Duration| {
            #[allow(clippy::disallowed_methods, reason = "a measurement")]
            let began = Instant::now();
            let error = TcpStream::connect_timeout(&SocketAddr::from((self.address, NOBODY)), patience).err();
            (error.map(|error| error.kind()), began.elapsed())
        };
        let patience = Duration::from_secs(2);
        let plain = within(patience);
        ensure!(plain.0 == Some(ErrorKind::ConnectionRefused), "nothing comes through: {plain:?}");
        let all = 0..=u16::MAX;
        self.change(all.clone(), Conditions { delay: DELAY, ..Conditions::default() });
        let late = within(patience);
        self.heal()?;
        ensure!(late.0 == Some(ErrorKind::ConnectionRefused) && late.1 >= 2 * DELAY, "no delay: {late:?}");
        self.change(all, Conditions::cut());
        let cut = within(Duration::from_millis(200));
        self.heal()?;
        ensure!(cut.0 == Some(ErrorKind::TimedOut), "no cut: {cut:?}");
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Its namespace ends with the last process in it.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn namespace(holder: &Child) -> String {
    format!("--net=/proc/{}/ns/net", holder.id())
}

fn run(line: &[&str]) -> Result<()> {
    let output = Command::new(line[0]).args(&line[1..]).output();
    let output = match output {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("there is no {} (Debian: iproute2, util-linux)", line[0])
        }
        output => output.with_context(|| format!("cannot run {}", line[0]))?,
    };
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed: {}", line.join(" "), said.trim());
    Ok(())
}
