//! The program: parse, call, exit code; nothing else.

fn main() {
    let code = backpack_run::cli::main(std::env::args_os());
    std::process::exit(code.into());
}
