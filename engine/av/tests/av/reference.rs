//! What FFmpeg's own programs say of a file.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// A packet by `ffprobe -show_packets`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Packet {
    pub(crate) pts: Option<i64>,
    pub(crate) dts: Option<i64>,
    pub(crate) duration: u32,
    pub(crate) size: u32,
    pub(crate) key: bool,
    pub(crate) discard: bool,
    pub(crate) sha256: String,
}

/// A picture by `ffprobe -show_frames`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Frame {
    pub(crate) pts: Option<i64>,
    pub(crate) key: bool,
    pub(crate) kind: char,
    pub(crate) size: (u32, u32),
    pub(crate) format: String,
}

/// The packets of each track, empty ones left out.
pub(crate) fn packets(path: &Path) -> Vec<Vec<Packet>> {
    let show = "packet=stream_index,pts,dts,duration,size,flags,data_hash";
    let mut tracks: Vec<Vec<Packet>> = vec![Vec::new(); streams(path).len()];
    for line in lines(ffprobe(path).args(["-show_packets", "-show_data_hash", "sha256", "-show_entries", show])) {
        let packet = Packet {
            pts: number(&line, "pts"),
            dts: number(&line, "dts"),
            duration: number(&line, "duration").unwrap_or(0) as u32,
            size: number(&line, "size").expect("every packet has a size") as u32,
            key: line["flags"].contains('K'),
            discard: line["flags"].contains('D'),
            sha256: line["data_hash"].trim_start_matches("SHA256:").to_owned(),
        };
        let stream = number(&line, "stream_index").expect("every packet is of a stream") as usize;
        if packet.size > 0 {
            tracks[stream].push(packet);
        }
    }
    tracks
}

/// What `ffprobe -show_streams` says of each stream.
pub(crate) fn streams(path: &Path) -> Vec<HashMap<String, String>> {
    lines(ffprobe(path).args(["-show_streams", "-show_entries", "stream"]))
}

/// The pictures of the first video track, in the order in which they are shown.
pub(crate) fn frames(path: &Path) -> Vec<Frame> {
    let show = "frame=pts,best_effort_timestamp,key_frame,pict_type,width,height,pix_fmt";
    let frame = |line: HashMap<String, String>| Frame {
        pts: number(&line, "pts").or_else(|| number(&line, "best_effort_timestamp")),
        key: line["key_frame"] == "1",
        kind: line["pict_type"].chars().next().expect("a letter"),
        size: (
            number(&line, "width").expect("a picture has a width") as u32,
            number(&line, "height").expect("a picture has a height") as u32,
        ),
        format: line["pix_fmt"].clone(),
    };
    lines(ffprobe(path).args(["-select_streams", "v:0", "-show_frames", "-show_entries", show]))
        .into_iter()
        .map(frame)
        .collect()
}

/// The pictures of the first video track as `ffmpeg` decodes them, in their own pixel format or in `format`.
pub(crate) fn decoded(path: &Path, format: Option<&str>) -> Vec<u8> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "quiet", "-nostdin", "-noautorotate", "-i"]).arg(path);
    command.args(["-map", "0:v:0", "-fps_mode", "passthrough", "-autoscale", "0", "-f", "rawvideo"]);
    if let Some(format) = format {
        command.args(["-pix_fmt", format]);
    }
    let output = command.arg("-").stdin(Stdio::null()).output().expect("the ffmpeg program is installed");
    assert!(!output.stdout.is_empty(), "{command:?} gave nothing");
    output.stdout
}

fn ffprobe(path: &Path) -> Command {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "quiet", "-of", "default"]).arg(path);
    command
}

/// The fields of each section that ffprobe writes, those of the sections within it after its own.
fn lines(command: &mut Command) -> Vec<HashMap<String, String>> {
    let output = command.stdin(Stdio::null()).output().expect("the ffprobe program is installed");
    assert!(output.status.success(), "{command:?}");
    let text = String::from_utf8(output.stdout).expect("ffprobe writes UTF-8");
    let mut sections: Vec<HashMap<String, String>> = Vec::new();
    // A transport stream's programs name its streams once more.
    let mut in_program = false;
    for line in text.lines() {
        match line {
            "[PROGRAM]" => in_program = true,
            "[/PROGRAM]" => in_program = false,
            _ => {}
        }
        if in_program {
            continue;
        }
        if ["[PACKET]", "[FRAME]", "[STREAM]"].contains(&line) {
            sections.push(HashMap::new());
        } else if let (Some(section), Some((key, value))) = (sections.last_mut(), line.split_once('=')) {
            section.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    sections
}

fn number(line: &HashMap<String, String>, key: &str) -> Option<i64> {
    line.get(key)?.parse().ok()
}
