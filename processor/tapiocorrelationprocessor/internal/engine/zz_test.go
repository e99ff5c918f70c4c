package engine
import ("testing";"time";"fmt")
func TestZZ(t *testing.T){
 s := newScenario(t)
			s.healthy(5 * time.Second)
			s.refusals(10, "u")
			s.wait(5 * time.Second)
 f := s.one()
 for _, l := range f.Chain { fmt.Println(l.Key, "| parent", l.Parent, l.Time.Format("05.000000"), l.Last.Format("05.000000"), l.Count, l.Layer, l.Title, l.Detail, l.LinkedBy, l.LinkedOn) }
 fmt.Println(f.Summary); fmt.Println(f.Missing); for _, r := range f.Rejected {fmt.Println(r.Pattern, r.Entity.Name, r.Score, r.Reason)}
}
