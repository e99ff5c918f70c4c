package pattern

import "testing"

func TestLibraryLoads(t *testing.T) {
	ps, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		v := &Values{Service: "a", Entity: "b", Attributes: map[string]any{}}
		t.Log(p.TitleFor(v), p.DescriptionFor(v), p.ActionsFor(v), p.NotObservedFor(v))
	}
}
