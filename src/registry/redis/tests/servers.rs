//! Real Redis servers for the tests: each a process of its own, on a port that was free, in a folder of its own.
//! Takes the options that a test wants, gives a server that answers; it is killed by its id when the test ends.
//! Surprise: the control connection is redis-rs' blocking one, so that it knows nothing of what is being tested.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis::{Connection, FromRedisValue};

/// A `redis-server` process.
pub struct Server {
    child: Child,
    program: &'static str,
    arguments: Vec<String>,
    pub port: u16,
    _folder: TempFolder,
}

/// A folder that goes with the test.
pub struct TempFolder(pub PathBuf);

impl TempFolder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("outrigger-redis-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Server {
    pub fn start(options: &str) -> Self {
        let (port, folder) = (free_port(), TempFolder::new());
        let all = format!(
            "--port {port} --bind 127.0.0.1 --dir {} --repl-diskless-sync-delay 0 --save --appendonly no",
            folder.0.display()
        );
        // An empty list of save points cannot be written in words.
        let mut arguments: Vec<String> = all.split(' ').map(Into::into).collect();
        let save = arguments.iter().position(|argument| argument == "--save").unwrap();
        arguments.insert(save + 1, String::new());
        arguments.extend(options.split_whitespace().map(Into::into));
        Self::run("redis-server", arguments, port, folder)
    }

    /// A sentinel that watches `master` as `mymaster`; two of them decide.
    pub fn sentinel(master: &Server) -> Self {
        let (port, folder) = (free_port(), TempFolder::new());
        let config = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor mymaster 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 2000\n",
            folder.0.display(),
            master.port
        );
        let path = folder.0.join("sentinel.conf");
        fs::write(&path, config).unwrap();
        Self::run("redis-sentinel", vec![path.display().to_string()], port, folder)
    }

    /// Three masters that share the slots; a slot without its master costs only its own keys.
    pub fn cluster() -> [Self; 3] {
        let nodes = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)].map(|(first, last)| {
            let node = Self::cluster_node();
            node.ask::<()>(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
            node
        });
        nodes[1..].iter().for_each(|node| node.meet(&nodes[0]));
        eventually("the nodes know of each other", || {
            nodes.iter().all(|node| {
                let told: String = node.ask("CLUSTER INFO");
                told.contains("cluster_state:ok") && told.contains("cluster_slots_ok:16384")
            })
        });
        nodes
    }

    /// One more node, that copies `nodes[of]`; all know of it.
    pub fn cluster_replica(nodes: &[Server], of: usize) -> Self {
        let (replica, id) = (Self::cluster_node(), nodes[of].ask::<String>("CLUSTER MYID"));
        replica.meet(&nodes[of]);
        eventually("it may copy", || replica.try_ask::<()>(&format!("CLUSTER REPLICATE {id}")).is_ok());
        eventually("it copies", || replica.ask::<String>("INFO replication").contains("link_status:up"));
        eventually("all know that", || {
            nodes.iter().all(|node| node.ask::<String>("CLUSTER NODES").contains(&format!("slave {id}")))
        });
        replica
    }

    fn cluster_node() -> Self {
        Self::start(&format!(
            "--cluster-enabled yes --cluster-port {} --cluster-node-timeout 1000 --cluster-require-full-coverage no",
            free_port()
        ))
    }

    fn meet(&self, other: &Server) {
        let bus = other.arguments.iter().skip_while(|option| *option != "--cluster-port").nth(1).unwrap();
        self.ask::<()>(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", other.port));
    }

    fn run(program: &'static str, arguments: Vec<String>, port: u16, folder: TempFolder) -> Self {
        let child = spawn(program, &arguments);
        let server = Self { child, program, arguments, port, _folder: folder };
        server.until_up();
        server
    }

    /// Asks for what must not fail.
    pub fn ask<T: FromRedisValue>(&self, command: &str) -> T {
        self.try_ask(command).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    pub fn try_ask<T: FromRedisValue>(&self, command: &str) -> redis::RedisResult<T> {
        let mut words = command.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        command.query(&mut self.connection()?)
    }

    /// How often the commands ran that are named so in `INFO commandstats`.
    pub fn ran(&self, command: &str) -> u64 {
        let stats: String = self.ask("INFO commandstats");
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// At the same port, with nothing kept.
    pub fn start_again(&mut self) {
        self.kill();
        self.child = spawn(self.program, &self.arguments);
        self.until_up();
    }

    fn connection(&self) -> redis::RedisResult<Connection> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        client.get_connection_with_timeout(Duration::from_secs(5))
    }

    fn until_up(&self) {
        eventually("the server answers", || self.try_ask::<String>("PING").is_ok());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(program: &str, arguments: &[String]) -> Child {
    Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Waits for a condition with patience, on a thread that has nothing else to do.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}: not within 30 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}
