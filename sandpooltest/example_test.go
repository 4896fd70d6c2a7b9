package sandpooltest_test

import (
	"context"
	"fmt"

	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/sandpooltest"
)

// A program that lets its users run code is tested against a server whose code does what the test
// says.
func ExampleStart() {
	ctx := context.Background()
	srv, err := sandpooltest.Start(ctx, sandpooltest.Options{
		Run: func(_ context.Context, c sandpooltest.Code) sandpooltest.Outcome {
			return sandpooltest.Outcome{Stdout: "this is " + c.Session + "\n", Value: "2"}
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer srv.Close()

	e, err := srv.Client().Execute(ctx, sandpooltest.Pool, "chat-42", client.Run{Code: "1+1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(e.Result.Stdout)
	fmt.Printf("%s\n", e.Result.ExecutionResult)
	// Output:
	// this is chat-42
	// 2
}
