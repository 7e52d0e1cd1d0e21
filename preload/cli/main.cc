// main.cc - the `weft` command: reads the command line and hands over to run.cc or compare.cc.
// Every failure is one message `weft: ...` on standard error, written here.
// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>

#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "preload/cli/compare.h"
#include "preload/cli/errors.h"
#include "preload/cli/run.h"

namespace weft::cli {
namespace {

void add_runtime_options(CLI::App& app, RuntimeOptions& options) {
  app.add_option("--workers", options.workers,
                 "Kernel threads that run the program's threads, 1 to 64 (default: one per CPU)");
  app.add_option("--stack-size", options.stack_size,
                 "Stack of a thread that asks for the default size, in bytes");
  app.add_option("--intercept", options.intercept,
                 "How system calls are reached: patch (default), audit or dispatch");
  // The first word that is not an option begins the command; its own options are not ours.
  app.prefix_command();
}

void add_compare_options(CLI::App& app, CompareOptions& options) {
  app.add_option("--ready", options.ready,
                 "Where the server answers: tcp:PORT, tcp:HOST:PORT or unix:PATH")
      ->required();
  app.add_option("--load", options.load, "The load, a command for /bin/sh")->required();
  app.add_option("--rounds", options.rounds, "How often each side is measured (default 5)");
  app.add_option("--figure", options.figure,
                 "Also take the last number that this regular expression matches in the load's "
                 "output: its first group, else the whole match");
  app.add_flag("--json", options.json, "Write one JSON object instead of the table");
  app.add_option("--pin-server", options.server_cpus, "CPUs of the server, such as 0 or 0-2");
  app.add_option("--pin-load", options.load_cpus, "CPUs of the load");
  app.add_option("--warmup-seconds", options.warmup_seconds,
                 "Run the load this long before each measurement (default 0)");
  app.add_option("--ready-seconds", options.ready_seconds,
                 "How long the server may take to answer (default 30)");
  app.add_option("--load-seconds", options.load_seconds,
                 "How long the load may take (default 600)");
  app.add_option("--stop-seconds", options.stop_seconds,
                 "How long the server may take to end on SIGTERM (default 20)");
}

// The words behind our options. CLI11 saw only what stands before the first `--`, as it takes no
// command behind one; `after` is the rest. A `--` behind the command's name is the command's own.
std::vector<std::string> command_of(const CLI::App& app, const std::vector<std::string>& after,
                                    bool has_separator) {
  std::vector<std::string> command = app.remaining();
  if (!command.empty()) {
    if (command.front().rfind('-', 0) == 0) {
      throw UsageError(command.front() + ": no such option of weft " + app.get_name() +
                       "; see weft " + app.get_name() + " --help");
    }
    if (has_separator) command.emplace_back("--");
  }
  command.insert(command.end(), after.begin(), after.end());
  if (command.empty()) throw UsageError(app.get_name() + ": which command? See weft --help");
  return command;
}

int run_command_line(int argc, char** argv) {
  CLI::App app("Runs the threads of an unmodified program as fibers on a few kernel threads.",
               "weft");
  app.require_subcommand(1);
  app.footer("WEFT_LIBRARY names libweft.so if it is neither beside this program nor in ../lib.");
  RuntimeOptions run_options;
  CLI::App* const run_app =
      app.add_subcommand("run", "Run a command under weft: weft run [options] [--] CMD ARGS");
  add_runtime_options(*run_app, run_options);
  run_app->add_flag("--stats", run_options.stats, "Print counters when the program ends");

  CompareOptions compare_options;
  CLI::App* const compare_app =
      app.add_subcommand("compare",
                         "Measure a server natively and under weft: weft compare --ready tcp:PORT "
                         "--load 'COMMAND' [options] [--] SERVER ARGS");
  add_runtime_options(*compare_app, compare_options.runtime);
  add_compare_options(*compare_app, compare_options);

  int separator = 1;
  while (separator < argc && std::string_view(argv[separator]) != "--") separator++;
  const bool has_separator = separator < argc;
  const std::vector<std::string> after(argv + separator + (has_separator ? 1 : 0), argv + argc);

  try {
    app.parse(separator, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    throw UsageError(std::string(error.what()) + "; see weft --help");
  }
  if (run_app->parsed()) run(command_of(*run_app, after, has_separator), run_options);
  compare_options.server = command_of(*compare_app, after, has_separator);
  compare(compare_options);
  return 0;
}

}  // namespace
}  // namespace weft::cli

int main(int argc, char** argv) {
  try {
    return weft::cli::run_command_line(argc, argv);
  } catch (const weft::cli::Failure& failure) {
    std::cerr << "weft: " << failure.what() << "\n";
    return failure.status();
  } catch (const std::exception& error) {
    std::cerr << "weft: " << error.what() << "\n";
    return weft::cli::kStatusFailed;
  }
}
