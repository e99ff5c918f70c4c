package retry

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"
)

func TestDo(t *testing.T) {
	t.Parallel()
	calls := 0
	err := Do(context.Background(), func() error {
		if calls++; calls < 3 {
			return errors.New("full")
		}
		return nil
	})
	require.NoError(t, err)
	assert.Equal(t, 3, calls)

	calls = 0
	err = Do(context.Background(), func() error { calls++; return consumererror.NewPermanent(errors.New("malformed")) })
	require.Error(t, err)
	assert.Equal(t, 1, calls)

	ctx, cancel := context.WithCancel(context.Background())
	err = Do(ctx, func() error { cancel(); return errors.New("full") })
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "full")
}
