// How the kernel starts: as the unprivileged user, with its control socket as descriptor 3.
//
// The modules of the kernel are no modules of Node.js: code finds them nowhere. What they use
// after code has run they take by name first, so that code which replaces a function of a builtin
// module does not break them. What code can break is the realm that it shares with them.
"use strict";

const [directory, home] = process.argv.slice(1);
process.umask(0o022);
process.env.HOME = home;
try {
  process.chdir(directory);
} catch {
  // Code has made it inaccessible, and other code can make it accessible.
}
process.argv.length = 1;
process.execArgv = []; // which child_process.fork would hand on

const { Kernel } = load("cells");
new Kernel(directory).serve();
