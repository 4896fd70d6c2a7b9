package kernels

import (
	"embed"
	"encoding/json"
	"fmt"
)

// The modules of the kernel of Python. cells.py describes how the agent talks to it.
//
//go:embed python/*.py
var pythonFiles embed.FS

// python is the language of Python, with IPython's magics, displays and tracebacks.
func python() Spec {
	return Spec{
		Name: "python",
		// The program is read from a descriptor, so that it is neither a file in the
		// sandbox nor a command line that ps shows.
		Command: []string{"python3", "-c",
			"import os; exec(compile(os.fdopen(4).read(), 'sandpool-python', 'exec'))"},
		Program: pythonProgram,
		Env: []string{
			// Threads of numpy are memory and wake-ups of every sandbox; few may use
			// more than one processor. Code that does can ask for more (threadpoolctl).
			"OPENBLAS_NUM_THREADS=1",
			// pyarrow's memory allocator keeps a thread, which wakes now and then, costs every
			// restore, and has Python warn of each os.fork.
			"JE_ARROW_MALLOC_CONF=background_thread:false",
			"MPLBACKEND=module://matplotlib_inline.backend_inline",
		},
		Rehearsal: "print()\n1+1",
	}
}

// pythonProgram is a program that loads the modules, which come as one dictionary from
// name to text.
func pythonProgram() (string, error) {
	sources, err := modules(pythonFiles, "python/*.py")
	if err != nil {
		return "", err
	}
	load := sources["load"]
	delete(sources, "load")
	dictionary, err := json.Marshal(sources) // strings of JSON are strings of Python
	if err != nil {
		return "", fmt.Errorf("encode the Python kernel: %w", err)
	}
	return load + "\nload(" + string(dictionary) + ")('start').main(*__import__('sys').argv[1:])\n",
		nil
}
