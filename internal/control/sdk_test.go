package control

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appcontainers/armappcontainers/v3"

	"github.com/sandpool/sandpool"
)

// bearer is a credential that knows one token.
type bearer string

func (b bearer) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(b), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func azureClient(t *testing.T, k *kit) *armappcontainers.ContainerAppsSessionPoolsClient {
	t.Helper()
	c, err := armappcontainers.NewContainerAppsSessionPoolsClient("s1", bearer(k.admin),
		&arm.ClientOptions{
			ClientOptions: policy.ClientOptions{
				Transport: k.srv.Client(),
				Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: "https://login.invalid/",
					Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
						cloud.ResourceManager: {Endpoint: k.srv.URL,
							Audience: "https://management.azure.com"}}},
				Retry: policy.RetryOptions{MaxRetries: -1},
			},
			DisableRPRegistration: true,
		})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// finish polls until the operation has ended, without the client's pauses, and
// returns how often it asked.
func finish[T any](t *testing.T, p *runtime.Poller[T], err error) (result T, polls int, _ error) {
	t.Helper()
	if err != nil {
		return result, 0, err
	}
	for ; !p.Done(); polls++ {
		if polls > 20 {
			t.Fatal("the operation does not end")
		}
		if _, err := p.Poll(t.Context()); err != nil {
			return result, polls, err
		}
	}
	result, err = p.Result(t.Context())
	return result, polls, err
}

func codePool() armappcontainers.SessionPool {
	return armappcontainers.SessionPool{
		Location: to.Ptr("East US"), Tags: map[string]*string{"team": to.Ptr("ml")},
		Properties: &armappcontainers.SessionPoolProperties{
			ContainerType:      to.Ptr(armappcontainers.ContainerTypePythonLTS),
			PoolManagementType: to.Ptr(armappcontainers.PoolManagementTypeDynamic),
			ScaleConfiguration: &armappcontainers.ScaleConfiguration{
				MaxConcurrentSessions: to.Ptr[int32](20), ReadySessionInstances: to.Ptr[int32](3)},
			DynamicPoolConfiguration: &armappcontainers.DynamicPoolConfiguration{
				LifecycleConfiguration: &armappcontainers.LifecycleConfiguration{
					LifecycleType:           to.Ptr(armappcontainers.LifecycleTypeTimed),
					CooldownPeriodInSeconds: to.Ptr[int32](600)}},
			SessionNetworkConfiguration: &armappcontainers.SessionNetworkConfiguration{
				Status: to.Ptr(armappcontainers.SessionNetworkStatusEgressDisabled)},
		},
	}
}

// The official client creates, reads, lists, changes and deletes a pool, and
// waits for each operation.
func TestAzureSDK(t *testing.T) {
	k := newKit(t, Options{})
	k.pools.looks = 3
	c := azureClient(t, k)
	ctx := t.Context()

	create, err := c.BeginCreateOrUpdate(ctx, "lab", "pypool", codePool(), nil)
	made, polls, err := finish(t, create, err)
	if err != nil {
		t.Fatal(err)
	}
	if polls < 2 ||
		*made.Properties.ProvisioningState !=
			armappcontainers.SessionPoolProvisioningStateSucceeded {
		t.Errorf("%d polls, state %v", polls, *made.Properties.ProvisioningState)
	}
	if want := k.srv.URL +
		"/subscriptions/s1/resourceGroups/lab/sessionPools/pypool"; *made.Properties.PoolManagementEndpoint != want {
		t.Errorf("endpoint %q, want %q", *made.Properties.PoolManagementEndpoint, want)
	}
	got, err := c.Get(ctx, "LAB", "pypool", nil)
	if err != nil {
		t.Fatal(err)
	}
	if *got.ID != pypool || *got.Location != "East US" || *got.Tags["team"] != "ml" ||
		got.SystemData.CreatedAt == nil ||
		*got.Properties.DynamicPoolConfiguration.LifecycleConfiguration.CooldownPeriodInSeconds !=
			600 {
		t.Errorf("got %+v", got)
	}

	update, err := c.BeginUpdate(ctx, "lab", "pypool",
		armappcontainers.SessionPoolUpdatableProperties{
			Properties: &armappcontainers.SessionPoolUpdatablePropertiesProperties{
				ScaleConfiguration: &armappcontainers.ScaleConfiguration{
					MaxConcurrentSessions: to.Ptr[int32](30)}},
		}, nil)
	changed, _, err := finish(t, update, err)
	if err != nil {
		t.Fatal(err)
	}
	if s := changed.Properties.ScaleConfiguration; *s.MaxConcurrentSessions != 30 ||
		*s.ReadySessionInstances != 3 || *changed.Tags["team"] != "ml" {
		t.Errorf("after the update: %+v", s)
	}

	names := 0
	for pager := c.NewListBySubscriptionPager(nil); pager.More(); names++ {
		if _, err := pager.NextPage(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if names != 1 {
		t.Errorf("%d pages", names)
	}

	for range 2 { // the second meets nothing
		del, err := c.BeginDelete(ctx, "lab", "pypool", nil)
		if _, _, err := finish(t, del, err); err != nil {
			t.Fatal(err)
		}
	}
	var re *azcore.ResponseError
	if _, err := c.Get(ctx, "lab", "pypool", nil); !errors.As(err, &re) ||
		re.StatusCode != http.StatusNotFound || re.ErrorCode != "ResourceNotFound" {
		t.Errorf("get after delete: %v", err)
	}
}

func TestAzureSDKSeesFailures(t *testing.T) {
	k := newKit(t, Options{})
	k.pools.looks, k.pools.next = 1, sandpool.Failed
	c := azureClient(t, k)
	create, err := c.BeginCreateOrUpdate(t.Context(), "lab", "pypool", codePool(), nil)
	_, _, err = finish(t, create, err)
	var re *azcore.ResponseError
	if !errors.As(err, &re) || re.ErrorCode != "SessionPoolProvisioningFailed" {
		t.Errorf("a pool that fails: %v", err)
	}
	bad := codePool()
	bad.Properties.ScaleConfiguration.ReadySessionInstances = to.Ptr[int32](20)
	if _, err := c.BeginCreateOrUpdate(t.Context(), "lab", "other", bad, nil); !errors.As(err,
		&re) || re.StatusCode != 400 || re.ErrorCode != codeReady {
		t.Errorf("a pool that is invalid: %v", err)
	}
}
