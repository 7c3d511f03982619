//! Looking for bytes where they must not be: in files and in the memory of a process.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

/// Bytes of memory that are read at once.
const CHUNK: usize = 1024 * 1024;

/// The files below a directory in which one of the texts occurs.
#[track_caller]
pub fn files_with(dir: &Path, needles: &[&str]) -> Vec<String> {
    let mut grep = Command::new("grep");
    // Sockets, pipes and devices are no files.
    grep.args(["-r", "-l", "-a", "-z", "-F", "-s", "-D", "skip"]);
    needles.iter().for_each(|needle| {
        grep.args(["-e", needle]);
    });
    let said = grep.arg(dir).output().expect("grep is installed");
    // 2: something vanished meanwhile, or could not be read.
    String::from_utf8_lossy(&said.stdout).lines().map(str::to_owned).collect()
}

/// Those of the texts that are in the memory of a process.
#[track_caller]
pub fn in_memory(pid: u32, needles: &[&str]) -> Vec<String> {
    let mut grep = Command::new("grep");
    // Records end with a zero byte, so that none is longer than the text in memory.
    grep.args(["-a", "-z", "-o", "-F"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    needles.iter().for_each(|needle| {
        grep.args(["-e", needle]);
    });
    let mut grep = grep.spawn().expect("grep is installed");
    let sink = grep.stdin.take().expect("it was piped");
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process runs");
    let memory = File::open(format!("/proc/{pid}/mem")).expect("the tests run as root");
    let reader = std::thread::spawn(move || copy_regions(&maps, memory, sink));
    let said = grep.wait_with_output().expect("grep ends");
    assert!(reader.join().expect("memory is read") > 0, "nothing of process {pid} can be read");
    let mut found: Vec<String> = said
        .stdout
        .split(|byte| *byte == 0)
        .filter(|text| !text.is_empty())
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Copies every region that can be read; returns how many bytes there were.
fn copy_regions(maps: &str, mut memory: File, mut sink: ChildStdin) -> u64 {
    let mut total = 0;
    let mut chunk = vec![0; CHUNK];
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(mode)) = (words.next(), words.next()) else { continue };
        let is_kernels = line.ends_with("[vvar]") || line.ends_with("[vsyscall]");
        if !mode.starts_with('r') || is_kernels {
            continue;
        }
        let mut ends = range.split('-').filter_map(|end| u64::from_str_radix(end, 16).ok());
        let (Some(mut at), Some(end)) = (ends.next(), ends.next()) else { continue };
        if memory.seek(SeekFrom::Start(at)).is_err() {
            continue;
        }
        while at < end {
            let want = CHUNK.min(usize::try_from(end - at).unwrap_or(CHUNK));
            // A region may be gone by now, or be one of a device.
            let Ok(got @ 1..) = memory.read(&mut chunk[..want]) else { break };
            if sink.write_all(&chunk[..got]).is_err() {
                return total;
            }
            at += got as u64;
            total += got as u64;
        }
        let _ = sink.write_all(&[0]);
    }
    total
}

/// The lines of a file that hold all of the texts.
pub fn lines_with(path: &Path, needles: &[&str]) -> Vec<String> {
    let Ok(file) = File::open(path) else { return Vec::new() };
    let lines = BufReader::new(file).lines().map_while(Result::ok);
    lines.filter(|line| needles.iter().all(|needle| line.contains(needle))).collect()
}

/// A text of this many characters that nothing else holds.
pub fn canary(len: usize) -> String {
    use base64::Engine as _;
    let mut bytes = vec![0; len];
    let mut random = File::open("/dev/urandom").expect("there is randomness");
    random.read_exact(&mut bytes).expect("there is randomness");
    let mut text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    text.truncate(len);
    text
}
