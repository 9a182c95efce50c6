//! A headless Chromium, spoken to in the DevTools protocol over a pair of pipes: no port, no other crate.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// Chromium with one page.
pub struct Browser {
    process: Child,
    input: std::fs::File,
    output: BufReader<std::fs::File>,
    number: u64,
    session: String,
    /// What the page wrote to its console as a warning or an error, and exceptions that nobody caught.
    pub complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for the two descriptors, which are owned by nothing else.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    }
}

impl Browser {
    /// Starts it and opens `address`; None where there is no Chromium.
    pub fn open(address: &str) -> Option<Browser> {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let path = std::env::var_os("PATH")?;
        let program =
            names.iter().flat_map(|n| std::env::split_paths(&path).map(move |p| p.join(n))).find(|p| p.is_file())?;
        let profile = tempfile::tempdir().unwrap();
        let ((read_commands, write_commands), (read_answers, write_answers)) = (pipe(), pipe());
        let (commands, answers) = (read_commands.as_raw_fd(), write_answers.as_raw_fd());
        let mut command = Command::new(program);
        command
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--remote-debugging-pipe", "--window-size=1100,1400", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // SAFETY: only calls that are allowed between fork and exec. The copies above 3 and 4 keep one of the two from
        // being overwritten before it is taken.
        unsafe {
            command.pre_exec(move || {
                let (from, to) = (libc::fcntl(commands, libc::F_DUPFD, 10), libc::fcntl(answers, libc::F_DUPFD, 10));
                libc::dup2(from, 3);
                libc::dup2(to, 4);
                Ok(())
            });
        }
        let process = command.spawn().expect("Chromium starts");
        drop((read_commands, write_answers));
        let (input, output) = (write_commands.into(), BufReader::new(read_answers.into()));
        let (number, session, complaints) = (0, String::new(), Vec::new());
        let mut browser = Browser { process, input, output, number, session, complaints, _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        browser.session = browser.call("Target.attachToTarget", attach)["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Runtime", "Log", "Page"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.call("Page.navigate", json!({ "url": address }));
        while browser.evaluate("document.readyState") != "complete" {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Some(browser)
    }

    /// One command of the protocol and its result.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.input.write_all(format!("{message}\0").as_bytes()).expect("Chromium listens");
        loop {
            let mut bytes = Vec::new();
            self.output.read_until(0, &mut bytes).expect("Chromium answers");
            let text = bytes.strip_suffix(&[0]).expect("Chromium is still there");
            let answer: Value = serde_json::from_slice(text).unwrap();
            let event = answer["method"].as_str().unwrap_or_default();
            let kind =
                answer["params"]["type"].as_str().or(answer["params"]["entry"]["level"].as_str()).unwrap_or_default();
            if event == "Runtime.exceptionThrown" || matches!(kind, "error" | "warning" | "assert") {
                self.complaints.push(answer["params"].to_string());
            }
            if answer["id"] == self.number {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
        }
    }

    /// The value of an expression in the page.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let result = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// The middle of what a selector finds, after scrolling there.
    pub fn middle(&mut self, selector: &str) -> (f64, f64) {
        let found = self.evaluate(&format!(
            "(() => {{ const e = document.querySelector({selector:?}); e.scrollIntoView({{block: 'center'}}); \
             const b = e.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]; }})()"
        ));
        (found[0].as_f64().unwrap(), found[1].as_f64().unwrap())
    }

    /// Makes the window so many pixels wide and high.
    pub fn resize(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Moves the mouse.
    pub fn move_to(&mut self, (x, y): (f64, f64)) {
        self.call("Input.dispatchMouseEvent", json!({ "type": "mouseMoved", "x": x, "y": y }));
    }

    /// Presses and releases the left button in the middle of what a selector finds.
    pub fn click(&mut self, selector: &str) {
        let (x, y) = self.middle(selector);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Presses and releases a key by its name, for example ArrowLeft or Tab; `text` is what it types.
    pub fn press(&mut self, key: &str, code: u32, text: &str) {
        let mut event = json!({ "type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code });
        if !text.is_empty() {
            event["text"] = json!(text);
        }
        self.call("Input.dispatchKeyEvent", event.clone());
        event["type"] = json!("keyUp");
        self.call("Input.dispatchKeyEvent", event);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its helper processes end with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
